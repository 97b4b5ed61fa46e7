import { Host } from '#hostmem/host';
import { mutex } from '#hostmem/locks';
import { liveObjects, NULL, UseAfterFree } from '#hostmem/object';
import { object, ref, typesafeObject, u32, u64 } from '#hostmem/struct';
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
