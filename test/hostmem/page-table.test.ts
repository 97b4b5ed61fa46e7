import { Worker } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { riscv } from '#hostmem/formats/riscv';
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { Host } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import { hpaOf, type Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access } from '#hostmem/page-table-format';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { peek, poke } from '#hostmem/atomics';
import { describe, expect, test } from 'vitest';
import type { MapperTask } from './mapper.worker.ts';
import { Recorder } from './recorder.ts';

const READ_WRITE = Access.READ | Access.WRITE;

function vtd3() {
  const host = Host.create(1 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, vtdSecondStage(3));
  return { host, table, root: table.create(), result: new WalkResult() };
}

test('a VT-d leaf of PA 0x12345000, readable and writable, is 0x12345003, and 2 MiB at 0x40000000 is 0x40000083', () => {
  const format = vtdSecondStage(3);
  const frame = 0x12345 as Frame;
  expect([format.leafHigh(frame, READ_WRITE, 1), format.leafLow(frame, READ_WRITE, 1)]).toEqual([0, 0x12345003]);
  expect(format.leafLow(0x40000 as Frame, READ_WRITE, 2)).toBe(0x40000083);
  expect(format.leafLow(frame, Access.READ, 1)).toBe(0x12345001);
  expect([format.tableHigh(frame, 2), format.tableLow(frame, 2)]).toEqual([0, 0x12345003]);
});

test('a frame above 4 GiB keeps all 52 bits of its address in an entry', () => {
  const format = vtdSecondStage(5);
  const frame = 0xfedcba9876 as Frame;
  const high = format.leafHigh(frame, Access.WRITE, 1);
  const low = format.leafLow(frame, Access.WRITE, 1);
  expect([high, low >>> 0]).toEqual([0xfedcb, 0xa9876002]);
  expect(format.frameOf(high | (0x7ff << 20), low)).toBe(frame);
});

test('the entries of a mapping stand where the specification says', () => {
  const { host, table, root } = vtd3();
  expect(table.mapPage(root, 0x55, 0x8070_3000 | 0, 0x12345 as Frame, READ_WRITE)).toBe(0);
  // 0x55_8070_3000: level 3 index 0x156, level 2 index 0x3, level 1 index 0x103.
  const level2 = peek(host.ram, hpaOf(root) + 0x156 * 8);
  expect(level2 & 0xfff).toBe(3);
  const level1 = peek(host.ram, (level2 & ~0xfff) + 0x3 * 8);
  expect(peek(host.ram, (level1 & ~0xfff) + 0x103 * 8)).toBe(0x12345003);
});

test('permission is the AND over the levels, and each refusal has a fault of its own', () => {
  const { host, table, root, result } = vtd3();
  table.mapPage(root, 0, 0x1000, 0x55 as Frame, READ_WRITE);
  expect(table.walk(root, 0, 0x1fff, READ_WRITE, result)).toBe(WalkFault.NONE);
  expect([result.frame, result.permissions, result.level, result.entryLow]).toEqual([0x55, READ_WRITE, 1, 0x55003]);
  poke(host.ram, hpaOf(root), (peek(host.ram, hpaOf(root)) & ~3) | Access.READ);
  expect(table.walk(root, 0, 0x1000, Access.READ, result)).toBe(WalkFault.NONE);
  expect(table.walk(root, 0, 0x1000, Access.WRITE, result)).toBe(WalkFault.WRITE_DENIED);
  poke(host.ram, hpaOf(root), (peek(host.ram, hpaOf(root)) & ~3) | Access.WRITE);
  expect(table.walk(root, 0, 0x1000, READ_WRITE, result)).toBe(WalkFault.READ_DENIED);
  expect(table.translate(root, 0, 0x1000, result)).toBe(WalkFault.NONE);
  expect(result.permissions).toBe(Access.WRITE);
  expect(table.walk(root, 0, 0x2000, Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
  expect(result.level).toBe(1);
  expect(table.walk(root, 0, 0x4000_0000, Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
  expect([result.level, result.entryAt]).toEqual([3, hpaOf(root) + 8]);
  expect(table.walk(root, 0x80, 0, Access.READ, result)).toBe(WalkFault.BEYOND_WIDTH);
  poke(host.ram, hpaOf(root), 0xffff_f003 | 0);
  expect(table.walk(root, 0, 0x1000, Access.READ, result)).toBe(WalkFault.TABLE_ACCESS);
});

test('a walk ends at a large leaf in any of its pages, and a misaligned one has reserved bits', () => {
  const { host, table, root, result } = vtd3();
  table.mapPage(root, 0, 0, 0x55 as Frame, READ_WRITE);
  const level2 = peek(host.ram, hpaOf(root)) & ~0xfff;
  poke(host.ram, level2 + 8, 0x40000083);
  expect(table.walk(root, 0, 0x3fe_fff, Access.READ, result)).toBe(WalkFault.NONE);
  expect([result.frame, result.level]).toEqual([0x401fe, 2]);
  poke(host.ram, level2 + 8, 0x40001083);
  expect(table.walk(root, 0, 0x200_000, Access.READ, result)).toBe(WalkFault.RESERVED);
  poke(host.ram, hpaOf(root) + 511 * 8, 0x80000083 | 0);
  expect(table.walk(root, 0x7f, 0xffff_f000 | 0, Access.READ, result)).toBe(WalkFault.NONE);
  expect([result.frame, result.level]).toEqual([0xbffff, 3]);
});

test('unmap takes a large leaf as a whole when the range holds its first page, and leaves it otherwise', () => {
  const { host, table, root } = vtd3();
  table.mapPage(root, 0, 0, 0x55 as Frame, READ_WRITE);
  const level2 = peek(host.ram, hpaOf(root)) & ~0xfff;
  poke(host.ram, level2 + 8, 0x40000083);
  expect(table.mapPage(root, 0, 0x200_000, 0x55 as Frame, READ_WRITE)).toBe('EADDRINUSE');
  expect(table.unmap(root, 0, 0x201_000, 511)).toBe(0);
  expect(table.unmap(root, 0, 0x1ff_000, 2)).toBe(512);
  expect(peek(host.ram, level2 + 8)).toBe(0);
});

test('a mapping that is refused says why and changes nothing', () => {
  const { host, table, root } = vtd3();
  const used = host.frames.inUse;
  expect(table.mapPage(root, 0, 0x1000, 1 as Frame, 0)).toBe('EINVAL');
  expect(table.mapPage(root, 0x80, 0, 1 as Frame, READ_WRITE)).toBe('ERANGE');
  expect(table.mapPage(root, 0, 0, (2 ** 40) as Frame, READ_WRITE)).toBe('ERANGE');
  expect(host.frames.inUse).toBe(used);
  expect(table.mapPage(root, 0, 0x1000, 1 as Frame, READ_WRITE)).toBe(0);
  expect(table.mapPage(root, 0, 0x1000, 2 as Frame, READ_WRITE)).toBe('EADDRINUSE');
  while (host.frames.allocate(1) !== 0);
  expect(table.mapPage(root, 1, 0, 1 as Frame, READ_WRITE)).toBe('ENOMEM');
  expect(table.create()).toBe(0);
});

test('a point is each entry that a walk reads, each table that a mapper installs and each leaf that it sets or clears', () => {
  const { host, table, root, result } = vtd3();
  const recorder = new Recorder();
  host.ram.control = recorder;
  const pointsOf = (act: () => void): string[] => {
    recorder.points.length = 0;
    act();
    return recorder.points.map((point) => point.replace('VtdSecondStage.level', ''));
  };
  expect(pointsOf(() => table.mapPage(root, 0, 0, 5 as Frame, READ_WRITE))).toEqual(['RMW 3', 'RMW 2', 'RMW 1']);
  expect(pointsOf(() => table.mapPage(root, 0, 0x1000, 6 as Frame, READ_WRITE))).toEqual(['RMW 1']);
  expect(pointsOf(() => table.walk(root, 0, 0x1000, Access.READ, result))).toEqual(['READ 3', 'READ 2', 'READ 1']);
  expect(result.frame).toBe(6);
  expect(pointsOf(() => table.translate(root, 0, 0x1000, result))).toEqual([]);
  expect(pointsOf(() => expect(table.unmap(root, 0, 0, 512 * 512)).toBe(2)).length).toBe(512);
});

test('a mapper that loses the race for a missing table goes on in the one it finds and frees its own', () => {
  const { host, table, root, result } = vtd3();
  const recorder = new Recorder();
  host.ram.control = recorder;
  recorder.between = () => expect(table.mapPage(root, 0, 0, 5 as Frame, READ_WRITE)).toBe(0);
  expect(table.mapPage(root, 0, 0x1000, 6 as Frame, READ_WRITE)).toBe(0);
  expect([table.walk(root, 0, 0, Access.READ, result), result.frame]).toEqual([WalkFault.NONE, 5]);
  expect([table.walk(root, 0, 0x1000, Access.READ, result), result.frame]).toEqual([WalkFault.NONE, 6]);
  expect(host.frames.inUse).toBe(3);
});

test('two threads that map pages in shared tables at once lose no mapping and no frame', async () => {
  const host = Host.create(16 << 20, 1 << 20);
  const table = new PageTable(host.ram, host.frames, vtdSecondStage(4));
  const result = new WalkResult();
  const pages = 2_000;
  for (let round = 0; round < 5; round++) {
    const used = host.frames.inUse;
    const root = table.create();
    const start = new Int32Array(new SharedArrayBuffer(4));
    await Promise.all([0, 1].map((parity) => runMapper({ buffers: host.buffers, root, parity, pages, start })));
    const wrong: number[] = [];
    for (let page = 0; page < 2 * pages; page++) {
      const high = page >>> 12;
      const low = (page & 4095) << 20;
      if (table.translate(root, high, low, result) !== 0 || result.frame !== page + 1) wrong.push(page);
    }
    expect(wrong).toEqual([]);
    table.destroy(root);
    expect(host.frames.inUse).toBe(used);
  }
});

function runMapper(task: MapperTask): Promise<void> {
  const file = fileURLToPath(new URL('../../dist/test/hostmem/mapper.worker.js', import.meta.url));
  return new Promise((resolve, reject) => {
    const worker = new Worker(file, { workerData: task });
    worker.on('error', reject);
    worker.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`mapper ended with ${code}`))));
  });
}

describe('a walk over plain entries says what a walk entry by entry says', () => {
  const formats = [vtdSecondStage(3), vtdSecondStage(4), vtdFirstStage(4), vtdFirstStage(5), riscv({ levels: 3 }), riscv({ levels: 4, second: true })];

  test.each(formats.flatMap((format) => [false, true].map((marksUse) => [format.name, marksUse, format] as const)))('%s, marks use: %s', (_name, marksUse, format) => {
    expect(format.plain).toBeDefined();
    const host = Host.create(2 << 20, 1 << 20);
    const { plain: _plain, ...general } = format;
    const tables = { quick: new PageTable(host.ram, host.frames, format, marksUse), slow: new PageTable(host.ram, host.frames, general, marksUse) };
    const root = tables.quick.create();
    const iovaOf = (index: number): [number, number] => [index >> 4, (index * 0x9e3779b1) & ~0xfff];
    for (let index = 0; index < 24; index++) tables.quick.mapPage(root, ...iovaOf(index), (index % 300) as Frame, 1 + (index % 3));
    let seed = 7;
    const random = (below: number): number => ((seed = mix32(seed) | 0) >>> 0) % below;
    const found = { quick: new WalkResult(), slow: new WalkResult() };
    for (let round = 0; round < 300; round++) {
      const iova = iovaOf(random(26));
      const access = 1 + random(3);
      const before = host.ram.words.slice(0, 24 * 1024);
      const faults = [tables.quick.walk(root, ...iova, access, found.quick)];
      const marked = host.ram.words.slice(0, 24 * 1024);
      host.ram.words.set(before);
      faults.push(tables.slow.walk(root, ...iova, access, found.slow));
      expect(faults[0]).toBe(faults[1]);
      if (faults[0] === 0) expect({ ...found.quick }).toEqual({ ...found.slow });
      expect(marked.findIndex((word, at) => word !== host.ram.words[at])).toBe(-1);
      // Software and broken hardware write whatever they like.
      if (found.slow.entryAt !== 0 && random(3) === 0) host.ram.words[(found.slow.entryAt >>> 2) + random(2)]! ^= 1 << random(32);
      if (random(40) === 0) host.ram.words.set(before);
    }
  });
});
