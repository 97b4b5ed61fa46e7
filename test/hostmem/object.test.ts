import { Host } from '#hostmem/host';
import { mutex } from '#hostmem/locks';
import { liveBlocks, liveObjects, NULL, UseAfterFree } from '#hostmem/object';
import { extension, nameOfType, nameOfWord, object, onNewLine, ref, typesafeObject, u32, u64 } from '#hostmem/struct';
import { expect, test } from 'vitest';
import { Arena, runTasks } from './arena.ts';

const Crate = object('TestCrate', { lock: mutex, weight: u32.under('lock'), size: u64, next: ref('TestCrate') });

test('an access through a reference whose object was freed is seen, also when the block was reused', () => {
  const { kernel } = Host.create(1 << 20, 1 << 20);
  const crate = Crate.create(kernel);
  Crate.weight.write(kernel, crate, 7);
  expect(Crate.weight.read(kernel, crate)).toBe(7);
  Crate.free(kernel, crate);
  expect(() => Crate.weight.read(kernel, crate)).toThrow(UseAfterFree);
  const again = Crate.create(kernel);
  expect(again).not.toBe(crate);
  expect(Crate.weight.read(kernel, again)).toBe(0);
  expect(() => Crate.next.load(kernel, crate)).toThrow(/reused/);
});

test('a block of the type that keeps its blocks is never of another type, and who holds an old reference is told that it is', () => {
  const Safe = typesafeObject('TestSafe', { count: u32 });
  expect(() => typesafeObject('TestSafeToo', { count: u32 })).toThrow(/TestSafe is the type/);
  const { kernel } = Host.create(1 << 20, 1 << 20);
  const blocks = 300;
  const addressOf = (safe: ReturnType<typeof Safe.create>): number => Safe.addressIfLive(kernel, safe);
  const first = Array.from({ length: blocks }, () => Safe.create(kernel));
  const places = new Set(first.map(addressOf));
  for (const safe of first) Safe.free(kernel, safe);
  expect(first.map(addressOf)).toEqual(first.map(() => 0));
  const Other = object('TestOther', { count: u32 });
  for (let i = 0; i < 2 * blocks; i++) expect(places).not.toContain(Other.addressIfLive(kernel, Other.create(kernel)));
  for (let i = 0; i < blocks; i++) expect(places).toContain(addressOf(Safe.create(kernel)));

  const Longer = extension(Safe, 'TestLonger', { lock: onNewLine(mutex), weight: u32.under('lock'), next: ref('TestLonger') });
  const longer = Longer.create(kernel);
  const at = Longer.addressIfLive(kernel, longer);
  Longer.free(kernel, longer);
  for (let i = 0; i < 2 * blocks; i++) expect(Other.addressIfLive(kernel, Other.create(kernel))).not.toBe(at);
});

test('what begins as another is reached by either, goes by either, and has its own name', () => {
  const Case = object('TestCase', { kind: u32, count: onNewLine(u32) });
  const Filled = extension(Case, 'TestFilled', { contents: u32, lock: onNewLine(mutex), weight: u32.under('lock'), next: ref('TestFilled') });
  const { kernel } = Host.create(1 << 20, 1 << 20);
  const filled = Filled.create(kernel);
  const base = filled as number as ReturnType<typeof Case.create>;
  Case.kind.poke(kernel, base, 2);
  Case.count.add(kernel, base, 3);
  Filled.weight.write(kernel, filled, 5);
  expect([Case.kind.peek(kernel, filled), Case.count.peek(kernel, filled), Filled.contents.peek(kernel, filled), Filled.weight.read(kernel, filled)]).toEqual([2, 3, 0, 5]);
  const names = [Case.kind, Case.count, Filled.contents, Filled.lock, Filled.weight].map((field) => nameOfWord(kernel, field.address(kernel, filled)));
  expect(names).toEqual(['TestFilled.kind', 'TestFilled.count', 'TestFilled.contents', 'TestFilled.lock', 'TestFilled.weight']);
  expect(liveBlocks(kernel).map(({ type }) => nameOfType(type))).toEqual(['TestFilled']);
  Case.free(kernel, base);
  expect(() => Filled.weight.read(kernel, filled)).toThrow(UseAfterFree);
  expect(() => Case.count.load(kernel, base)).toThrow(/is free/);
  const plain = Case.create(kernel);
  expect(nameOfWord(kernel, Case.count.address(kernel, plain))).toBe('TestCase.count');
});

test('a 64-bit field keeps all its bits', () => {
  const { kernel } = Host.create(1 << 20, 1 << 20);
  const crate = Crate.create(kernel);
  Crate.size.pokeBig(kernel, crate, 0xfedcba9876543210n);
  expect(Crate.size.peekBig(kernel, crate)).toBe(0xfedcba9876543210n);
});

test('an object is freed once, and a full heap says so', () => {
  const { kernel } = Host.create(1 << 20, 65_536);
  const crate = Crate.create(kernel);
  Crate.free(kernel, crate);
  expect(() => Crate.free(kernel, crate)).toThrow(UseAfterFree);
  while (Crate.tryCreate(kernel) !== NULL);
  expect(() => Crate.create(kernel)).toThrow(/kernel memory is full/);
});

test('three threads that allocate and free at once are never handed the same block or frame, and leak none', async () => {
  const host = Host.create(4 << 20, 1 << 20);
  const arena = Arena.create(host.kernel);
  const live = liveObjects(host.kernel);
  const inUse = host.frames.inUse;
  const foreign = await runTasks({ job: 'storm', buffers: host.buffers, arena, parties: 3, rounds: 6_000 });
  expect(foreign).toEqual([0, 0, 0]);
  expect(liveObjects(host.kernel)).toBe(live);
  expect(host.frames.inUse).toBe(inUse);
});
