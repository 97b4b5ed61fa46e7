import { peek, poke } from '#hostmem/atomics';
import { riscv } from '#hostmem/formats/riscv';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access, Entry } from '#hostmem/page-table-format';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { expect, test } from 'vitest';

const READ_WRITE = Access.READ | Access.WRITE;
const frame = 0x80200 as Frame;

test('anchor W3: a leaf of PA 0x80200000 is 0x200800d7, and a read-only one 0x20080053', () => {
  const format = riscv({ levels: 3 });
  expect([format.leafHigh(frame, READ_WRITE, 1), format.leafLow(frame, READ_WRITE, 1)]).toEqual([0, 0x200800d7]);
  expect(format.leafLow(frame, READ_WRITE, 2)).toBe(0x200800d7);
  expect(format.leafLow(frame, Access.READ, 1)).toBe(0x20080053);
  expect(format.tableLow(frame, 2)).toBe(0x20080001);
  expect(format.inspect(2, 0, 0x200800d7)).toBe(READ_WRITE | Entry.LEAF);
});

test('all 44 bits of a frame are kept in an entry', () => {
  const format = riscv({ levels: 5 });
  const wide = 0xfedcba98765 as Frame;
  const high = format.leafHigh(wide, READ_WRITE, 1);
  expect(format.frameOf(high, format.leafLow(wide, READ_WRITE, 1))).toBe(wide);
  expect(high & ~0x3fffff).toBe(0);
});

test.each([
  ['W without R', 1, 0, 0x200800d5, Entry.RESERVED],
  ['a table at the last level', 1, 0, 0x20080001, Entry.RESERVED],
  ['a table with A', 2, 0, 0x20080041, Entry.RESERVED],
  ['a table with D', 2, 0, 0x20080081, Entry.RESERVED],
  ['a table with U', 2, 0, 0x20080011, Entry.RESERVED],
  ['a table with a memory type', 2, 1 << 29, 0x20080001, Entry.RESERVED],
  ['a table with N', 2, 1 << 31, 0x20080001, Entry.RESERVED],
  ['a leaf with bit 54', 1, 1 << 22, 0x200800d7, Entry.RESERVED],
  ['a leaf with bit 60', 1, 1 << 28, 0x200800d7, Entry.RESERVED],
  ['a leaf with memory type 2', 1, 1 << 30, 0x200800d7, READ_WRITE | Entry.LEAF],
  ['a leaf with memory type 3', 1, 3 << 29, 0x200800d7, Entry.RESERVED],
  ['a large leaf out of its place', 2, 0, 0x200804d7, Entry.RESERVED],
  ['N in a large leaf', 2, 1 << 31, 0x200820d7, Entry.RESERVED],
  ['N in the middle of 64 KiB', 1, 1 << 31, 0x200820d7, READ_WRITE | Entry.LEAF | Entry.LEAF64K],
  ['N elsewhere', 1, 1 << 31, 0x200810d7, Entry.RESERVED],
  ['a page to execute only', 1, 0, 0x20080059, Entry.LEAF],
  ['a page of the supervisor', 1, 0, 0x200800c7, READ_WRITE | Entry.LEAF | Entry.SUPERVISOR],
  ['an entry without V', 1, -1, -2, 0],
])('%s', (_what, level, high, low, seen) => expect(riscv({ levels: 3 }).inspect(level, high, low)).toBe(seen));

test('memory types and the bits of software are reserved in a unit without them', () => {
  const without = riscv({ levels: 3, svpbmt: false });
  const both = riscv({ levels: 3, svrsw60t59b: true });
  expect(without.inspect(1, 1 << 29, 0x200800d7)).toBe(Entry.RESERVED);
  expect(both.inspect(1, 3 << 27, 0x200800d7)).toBe(READ_WRITE | Entry.LEAF);
  expect(both.inspect(1, 1 << 26, 0x200800d7)).toBe(Entry.RESERVED);
});

test('a leaf of 64 KiB is one translation over its sixteen pages', () => {
  const host = Host.create(1 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, riscv({ levels: 3 }));
  const root = table.create();
  const result = new WalkResult();
  table.mapPage(root, 0, 0, 1 as Frame, READ_WRITE);
  table.walk(root, 0, 0, Access.READ, result);
  const table1 = result.entryAt;
  for (let page = 16; page < 32; page++) {
    poke(host.ram, table1 + page * 8, ((0x7770 + 8) << 10) | 0xd7);
    poke(host.ram, table1 + page * 8 + 4, 1 << 31);
  }
  for (const page of [16, 23, 24, 31]) {
    expect(table.walk(root, 0, page << 12, Access.WRITE, result)).toBe(WalkFault.NONE);
    expect([result.frame, result.level]).toEqual([0x7770 + page - 16, 1]);
  }
});

test('the root of the second stage is 16 KiB in its place, indexed by 11 bits, and given back whole', () => {
  const host = Host.create(1 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, riscv({ levels: 3, second: true }));
  const before = host.frames.allocate(2);
  const root = table.create();
  expect(root % 4).toBe(0);
  expect(host.frames.inUse).toBe(5);
  expect(table.mapPage(root, 0x1ff, 0xc000_0000 | 0, 9 as Frame, READ_WRITE)).toBe(0);
  expect(peek(host.ram, hpaOf(root) + 2047 * 8) & 1).toBe(1);
  expect(table.mapPage(root, 0x200, 0, 9 as Frame, READ_WRITE)).toBe('ERANGE');
  table.destroy(root);
  expect(host.frames.inUse).toBe(1);
  for (let round = 0; round < 200; round++) {
    const again = table.create();
    expect(again % 4).toBe(0);
    host.frames.drop(before);
    host.frames.allocate(2);
    table.destroy(again);
  }
});
