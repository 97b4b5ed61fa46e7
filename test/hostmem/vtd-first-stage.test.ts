import { peek, poke } from '#hostmem/atomics';
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access } from '#hostmem/page-table-format';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { expect, test } from 'vitest';
import { Recorder } from './recorder.ts';

const READ_WRITE = Access.READ | Access.WRITE;

function table4(marksUse = true) {
  const host = Host.create(1 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, vtdFirstStage(4), marksUse);
  return { host, table, root: table.create(), result: new WalkResult() };
}

test('anchor W2: a writable leaf of PA 0x12345000 is 0x12345067, a read-only one 0x12345025', () => {
  const format = vtdFirstStage(4);
  const frame = 0x12345 as Frame;
  expect([format.leafHigh(frame, READ_WRITE, 1), format.leafLow(frame, READ_WRITE, 1)]).toEqual([0, 0x12345067]);
  expect(format.leafLow(frame, Access.READ, 1)).toBe(0x12345025);
  expect(format.leafLow(0x40000 as Frame, READ_WRITE, 2)).toBe(0x400000e7);
  expect(format.tableLow(frame, 2)).toBe(0x12345027);
  expect(format.inspect(1, 0x80000000 | 0, 0x12345025) & READ_WRITE).toBe(Access.READ);
});

test('an IOVA is canonical when the bits from 47 on are all alike, and both halves are mapped and walked', () => {
  const { table, root, result } = table4();
  const canonical = [0, 0x7fff, 0xffff8000 | 0, -1];
  const others = [0x8000, 0x10000, 0x7fff8000, 0x80000000 | 0, 0xfffe8000 | 0, 0xffff7fff | 0];
  for (const [index, high] of canonical.entries()) {
    expect(table.mapPage(root, high, 0x7000, (index + 1) as Frame, READ_WRITE)).toBe(0);
    expect(table.walk(root, high, 0x7000, Access.WRITE, result)).toBe(WalkFault.NONE);
    expect(result.frame).toBe(index + 1);
  }
  for (const high of others) {
    expect(table.walk(root, high, 0x7000, Access.READ, result)).toBe(WalkFault.BEYOND_WIDTH);
    expect(table.mapPage(root, high, 0x7000, 1 as Frame, READ_WRITE)).toBe('ERANGE');
    expect(table.unmap(root, high, 0x7000, 2 ** 40)).toBe(0);
  }
  expect(table.unmap(root, 0xffff8000 | 0, 0, 2 ** 35)).toBe(2);
  expect(table.unmap(root, 0, 0, 2 ** 35)).toBe(2);
});

test('a page of the supervisor refuses a user, at whatever level it says so; reserved bits are found', () => {
  const { host, table, root, result } = table4();
  table.mapPage(root, 0, 0x1000, 5 as Frame, READ_WRITE);
  table.walk(root, 0, 0x1000, Access.READ, result);
  const leafAt = result.entryAt;
  const changed = (at: number, clear: number, set: number): number => {
    const old = peek(host.ram, at);
    poke(host.ram, at, (old & ~clear) | set);
    const fault = table.walk(root, 0, 0x1000, Access.READ, result);
    poke(host.ram, at, old);
    return fault;
  };
  expect(changed(leafAt, 4, 0)).toBe(WalkFault.SUPERVISOR);
  expect(changed(hpaOf(root), 4, 0)).toBe(WalkFault.SUPERVISOR);
  expect(changed(hpaOf(root), 0, 0x80)).toBe(WalkFault.RESERVED);
  expect(changed(leafAt, 1, 0)).toBe(WalkFault.NOT_PRESENT);
  expect(changed(leafAt, 2, 0)).toBe(WalkFault.NONE);
});

test('a mark that meets a changed entry is not made there: the walk begins anew and answers by the new entry', () => {
  const { host, table, root, result } = table4();
  table.mapPage(root, 0, 0x1000, 5 as Frame, READ_WRITE);
  table.walk(root, 0, 0x1000, Access.READ, result);
  const leafAt = result.entryAt;
  poke(host.ram, leafAt, 0x5007);
  const recorder = new Recorder();
  host.ram.control = recorder;
  let points = 0;
  const step = (): void => {
    points++;
    if (points === 5) host.ram.words[leafAt >>> 2] = 0x6005;
    else recorder.between = step;
  };
  recorder.between = step;
  const fault = table.walk(root, 0, 0x1000, Access.WRITE, result);
  host.ram.control = null;
  expect(points).toBe(5);
  expect([fault, peek(host.ram, leafAt)]).toEqual([WalkFault.WRITE_DENIED, 0x6005]);
});

test('five levels reach 56 bits and a sign', () => {
  const host = Host.create(1 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, vtdFirstStage(5));
  const root = table.create();
  const result = new WalkResult();
  expect(table.mapPage(root, 0xffffff, 0xfffff000 | 0, 3 as Frame, READ_WRITE)).toBe(0);
  expect(table.walk(root, 0xffffff, -1, Access.READ, result)).toBe(WalkFault.NONE);
  expect(result.frame).toBe(3);
  expect(table.walk(root, 0x1000000, 0, Access.READ, result)).toBe(WalkFault.BEYOND_WIDTH);
  expect(table.walk(root, 0xff000000 | 0, 0, Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
});
