import { peek, poke } from '#hostmem/atomics';
import { smmuStage1 } from '#hostmem/formats/smmu-stage-1';
import { smmuStage2 } from '#hostmem/formats/smmu-stage-2';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access, Entry, type PageTableFormat } from '#hostmem/page-table-format';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { expect, test } from 'vitest';

const READ_WRITE = Access.READ | Access.WRITE;
const frame = 0x12345 as Frame;
const dbm = 1 << 19;

function tables(format: PageTableFormat, marksUse: boolean) {
  const host = Host.create(1 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, format, marksUse);
  return { host, table, root: table.create(), result: new WalkResult() };
}

test('stage 1: a page of PA 0x12345000 is 0x0008000012345f47 writable and 0x12345fc7 read-only, a block has no bit 1', () => {
  const format = smmuStage1(4);
  expect([format.leafHigh(frame, READ_WRITE, 1), format.leafLow(frame, READ_WRITE, 1)]).toEqual([dbm, 0x12345f47]);
  expect([format.leafHigh(frame, Access.READ, 1), format.leafLow(frame, Access.READ, 1)]).toEqual([0, 0x12345fc7]);
  expect(format.leafLow(0x40000 as Frame, READ_WRITE, 2)).toBe(0x40000f45);
  expect([format.tableHigh(frame, 2), format.tableLow(frame, 2)]).toEqual([0, 0x12345003]);
});

test('stage 2: a page of PA 0x12345000 is 0x00080000123457ff, and read-only 0x1234577f', () => {
  const format = smmuStage2(3);
  expect([format.leafHigh(frame, READ_WRITE, 1), format.leafLow(frame, READ_WRITE, 1)]).toEqual([dbm, 0x123457ff]);
  expect([format.leafHigh(frame, Access.READ, 1), format.leafLow(frame, Access.READ, 1)]).toEqual([0, 0x1234577f]);
  expect(format.leafLow(0x40000 as Frame, Access.WRITE, 3)).toBe(0x400007bd);
});

test('stage 1: a table takes away writing, or all that is not privileged', () => {
  const { host, table, root, result } = tables(smmuStage1(3), false);
  table.mapPage(root, 0, 0, 5 as Frame, READ_WRITE);
  poke(host.ram, hpaOf(root) + 4, 1 << 30);
  expect(table.walk(root, 0, 0, Access.READ, result)).toBe(WalkFault.NONE);
  expect(table.walk(root, 0, 0, Access.WRITE, result)).toBe(WalkFault.WRITE_DENIED);
  poke(host.ram, hpaOf(root) + 4, 1 << 29);
  expect(table.walk(root, 0, 0, Access.READ, result)).toBe(WalkFault.SUPERVISOR);
});

test.each([smmuStage1(4), smmuStage2(4)])('$name: blocks are at levels 2 and 3, and what else has their encoding is not there', (format) => {
  const block = format.leafLow(0x40000 as Frame, READ_WRITE, 2);
  expect(format.inspect(2, dbm, block)).toBe(READ_WRITE | Entry.LEAF);
  expect(format.inspect(3, dbm, block)).toBe(READ_WRITE | Entry.LEAF);
  expect(format.inspect(4, dbm, block)).toBe(0);
  expect(format.inspect(1, dbm, block)).toBe(0);
  expect(format.inspect(3, dbm, block | 0x200000)).toBe(READ_WRITE | Entry.RESERVED);
  expect(format.inspect(2, dbm, block & ~1)).toBe(0);
});

test('stage 1: a write makes a leaf with DBM writable, and none without', () => {
  const { host, table, root, result } = tables(smmuStage1(3), true);
  table.mapPage(root, 0, 0, 5 as Frame, READ_WRITE);
  table.walk(root, 0, 0, Access.READ, result);
  const at = result.entryAt;
  poke(host.ram, at, peek(host.ram, at) | 0x80);
  expect(table.walk(root, 0, 0, Access.READ, result)).toBe(WalkFault.NONE);
  expect(peek(host.ram, at) & 0x80).toBe(0x80);
  expect(table.walk(root, 0, 0, Access.WRITE, result)).toBe(WalkFault.NONE);
  expect(peek(host.ram, at)).toBe(0x5f47);
  poke(host.ram, at, 0x5fc7);
  poke(host.ram, at + 4, 0);
  expect(table.walk(root, 0, 0, Access.WRITE, result)).toBe(WalkFault.WRITE_DENIED);
  expect(peek(host.ram, at)).toBe(0x5fc7);
});
