import { peek, poke } from '#hostmem/atomics';
import { amdV1 } from '#hostmem/formats/amd-v1';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access } from '#hostmem/page-table-format';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { expect, test } from 'vitest';

const READ_WRITE = Access.READ | Access.WRITE;
const permissionBits = 3 << 29;

function tables(levels: 3 | 4 | 5 | 6) {
  const host = Host.create(1 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, amdV1(levels));
  return { host, table, root: table.create(), result: new WalkResult() };
}

test('anchor W4: a leaf of PA 0x12345000 is 0x7000000012345001, and a table names its level', () => {
  const format = amdV1(4);
  const frame = 0x12345 as Frame;
  expect([format.leafHigh(frame, READ_WRITE, 1), format.leafLow(frame, READ_WRITE, 1)]).toEqual([0x70000000, 0x12345001]);
  expect(format.leafHigh(frame, Access.READ, 1)).toBe(0x30000000);
  expect([format.tableHigh(frame, 4), format.tableLow(frame, 4)]).toEqual([0x60000000, 0x12345601]);
});

test('permission is the AND over the levels, also of a table that grants nothing', () => {
  const { host, table, root, result } = tables(3);
  table.mapPage(root, 0, 0, 5 as Frame, READ_WRITE);
  poke(host.ram, hpaOf(root) + 4, 1 << 30);
  expect(table.walk(root, 0, 0, Access.READ, result)).toBe(WalkFault.READ_DENIED);
  expect(table.walk(root, 0, 0, Access.WRITE, result)).toBe(WalkFault.NONE);
  poke(host.ram, hpaOf(root) + 4, 0);
  expect(table.walk(root, 0, 0, Access.WRITE, result)).toBe(WalkFault.WRITE_DENIED);
});

test('a table that grows at its top keeps what it maps, reaches further, and is destroyed as one', () => {
  const { host, table, root, result } = tables(3);
  const taller = new PageTable(host.ram, host.frames, amdV1(4));
  expect(table.mapPage(root, 0x7f, -4096, 5 as Frame, READ_WRITE)).toBe(0);
  expect(table.mapPage(root, 0x80, 0, 6 as Frame, READ_WRITE)).toBe('ERANGE');
  const raised = taller.raise(root);
  expect(table.walk(root, 0x7f, -1, Access.WRITE, result)).toBe(WalkFault.NONE);
  expect(taller.walk(raised, 0x7f, -1, Access.WRITE, result)).toBe(WalkFault.NONE);
  expect(result.frame).toBe(5);
  expect(taller.mapPage(raised, 0x80, 0, 6 as Frame, READ_WRITE)).toBe(0);
  expect(taller.walk(raised, 0x80, 0, Access.READ, result)).toBe(WalkFault.NONE);
  expect([result.frame, host.frames.inUse]).toEqual([6, 7]);
  taller.destroy(raised);
  expect(host.frames.inUse).toBe(0);
});

test('a walker that uses the old root with the new mode, or the new one with the old mode, goes astray', () => {
  const { host, table, root, result } = tables(3);
  const taller = new PageTable(host.ram, host.frames, amdV1(4));
  table.mapPage(root, 0, 0, 5 as Frame, READ_WRITE);
  const raised = taller.raise(root);
  expect(taller.walk(root, 0, 0, Access.READ, result)).toBe(WalkFault.NONE);
  expect(taller.walk(root, 0, 0x4000_0000, Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
  expect(table.walk(raised, 0, 0, Access.READ, result)).toBe(WalkFault.RESERVED);
});

test('a table may be several levels below the entry that names it; then the bits between must be 0', () => {
  const { host, table, root, result } = tables(4);
  const below = host.frames.allocate(2);
  poke(host.ram, hpaOf(root) + 8, (below << 12) | (1 << 9) | 1);
  poke(host.ram, hpaOf(root) + 12, permissionBits);
  poke(host.ram, hpaOf(below) + 5 * 8, 0x77001);
  poke(host.ram, hpaOf(below) + 5 * 8 + 4, permissionBits);
  expect(table.walk(root, 0x80, 0x5123, READ_WRITE, result)).toBe(WalkFault.NONE);
  expect([result.frame, result.level]).toEqual([0x77, 1]);
  expect(table.walk(root, 0x80, 0x0020_5123, Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
  expect([result.level, result.entryAt]).toEqual([4, hpaOf(root) + 8]);
  expect(table.walk(root, 0xc0, 0x5123, Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
  expect(table.mapPage(root, 0x80, 0x6000, 1 as Frame, 3)).toBe('EADDRINUSE');
});

test('sizes in the address, a level that is not below, and a misaligned leaf are reserved', () => {
  const { host, table, root, result } = tables(3);
  const faultOf = (low: number, high: number = permissionBits): WalkFault => {
    poke(host.ram, hpaOf(root), low);
    poke(host.ram, hpaOf(root) + 4, high);
    return table.walk(root, 0, 0, Access.READ, result);
  };
  expect(faultOf(0x12345e01)).toBe(WalkFault.RESERVED);
  expect(faultOf(0x12345601)).toBe(WalkFault.RESERVED);
  expect(faultOf(0x40001001)).toBe(WalkFault.RESERVED);
  expect(faultOf(0x40000001)).toBe(WalkFault.NONE);
  expect(faultOf(0x40000000)).toBe(WalkFault.NOT_PRESENT);
  expect(peek(host.ram, hpaOf(root))).toBe(0x40000000);
});
