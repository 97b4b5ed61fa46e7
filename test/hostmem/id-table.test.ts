import fc from 'fast-check';
import { Host } from '#hostmem/host';
import { idTable } from '#hostmem/id-table';
import type { Memory } from '#hostmem/memory';
import { liveObjects, NULL, type Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { expect, test } from 'vitest';
import { Recorder } from './recorder.ts';

const Context = object('TestContext', { pad: u32, ids: idTable });
const Thing = object('TestThing', { pad: u32 });

function context() {
  const host = Host.create(65_536, 4 << 20);
  return { kernel: host.kernel, at: Context.create(host.kernel), thing: Thing.create(host.kernel) };
}

test('ids start at 1, the lowest free one is taken, and a freed one is taken again at once', () => {
  const { kernel, at } = context();
  expect([1, 2, 3, 4].map(() => Context.ids.reserve(kernel, at))).toEqual([1, 2, 3, 4]);
  Context.ids.erase(kernel, at, 3);
  Context.ids.erase(kernel, at, 2);
  expect([1, 2, 3].map(() => Context.ids.reserve(kernel, at))).toEqual([2, 3, 5]);
});

test('a reserved id is found only once it is published', () => {
  const { kernel, at, thing } = context();
  const id = Context.ids.reserve(kernel, at);
  expect(Context.ids.get(kernel, at, id)).toBe(NULL);
  expect(Context.ids.next(kernel, at, 0)).toBe(0);
  Context.ids.publish(kernel, at, id, thing);
  expect(Context.ids.get(kernel, at, id)).toBe(thing);
  expect(Context.ids.next(kernel, at, 0)).toBe(id);
  expect(() => Context.ids.publish(kernel, at, id, thing)).toThrow(/cannot be published/);
});

test('a tombstone is never found, never handed out and never erased', () => {
  const { kernel, at, thing } = context();
  const id = Context.ids.reserve(kernel, at);
  Context.ids.publish(kernel, at, id, thing);
  expect(Context.ids.tombstone(kernel, at, id)).toBe(thing);
  expect(Context.ids.get(kernel, at, id)).toBe(NULL);
  expect(Context.ids.next(kernel, at, 0)).toBe(0);
  expect(Context.ids.reserve(kernel, at)).toBe(2);
  expect(() => Context.ids.erase(kernel, at, id)).toThrow(/tombstone/);
});

test('any number may be looked up', () => {
  const { kernel, at } = context();
  for (let i = 0; i < 70; i++) Context.ids.reserve(kernel, at);
  for (const id of [0, -1, 65, 71, 4097, 0x7fffffff, 0x80000000, 0xffffffff]) {
    expect(Context.ids.get(kernel, at, id)).toBe(NULL);
    expect(Context.ids.getUnlocked(kernel, at, id)).toBe(NULL);
  }
  expect(Context.ids.next(kernel, at, 0x7fffffff)).toBe(0);
  expect(() => Context.ids.erase(kernel, at, 71)).toThrow(/not taken/);
});

test('a table that is empty again has given back all its memory', () => {
  const { kernel, at, thing } = context();
  const live = liveObjects(kernel);
  for (let i = 0; i < 5_000; i++) Context.ids.publish(kernel, at, Context.ids.reserve(kernel, at), thing);
  expect(Context.ids.reserve(kernel, at)).toBe(5_001);
  Context.ids.erase(kernel, at, 5_001);
  for (let id = 5_000; id > 70; id--) Context.ids.erase(kernel, at, id);
  expect(liveObjects(kernel)).toBe(live + 3);
  for (let id = 1; id <= 70; id++) Context.ids.erase(kernel, at, id);
  expect(liveObjects(kernel)).toBe(live);
});

test('without kernel memory no id is reserved and the table is as it was', () => {
  const kernel = Host.create(65_536, 65_536).kernel;
  const at = Context.create(kernel);
  for (let i = 0; i < 64; i++) Context.ids.reserve(kernel, at);
  while (Thing.tryCreate(kernel) !== NULL);
  const live = liveObjects(kernel);
  expect(Context.ids.reserve(kernel, at)).toBe(0);
  expect(liveObjects(kernel)).toBe(live);
  Context.ids.erase(kernel, at, 17);
  expect(Context.ids.reserve(kernel, at)).toBe(17);
});

test('its lock is the only point, and a caller may look up and act under one hold of it', () => {
  const { kernel, at, thing } = context();
  const recorder = new Recorder();
  kernel.control = recorder;
  Context.ids.publish(kernel, at, Context.ids.reserve(kernel, at), thing);
  expect(recorder.points).toEqual(['LOCK', 'UNLOCK', 'LOCK', 'UNLOCK'].map((op) => `${op} TestContext.ids`));
  Context.ids.acquire(kernel, at);
  expect(Context.ids.getLocked(kernel, at, 1)).toBe(thing);
  expect(Context.ids.eraseLocked(kernel, at, 1)).toBe(thing);
  Context.ids.release(kernel, at);
  expect(Context.ids.getUnlocked(kernel, at, 1)).toBe(NULL);
  expect(recorder.points.slice(4)).toEqual(['LOCK TestContext.ids', 'UNLOCK TestContext.ids']);
});

/** Id -> what it names: a reference, 0 while reserved, -1 for a tombstone. */
type Model = Map<number, number>;
interface Real {
  kernel: Memory;
  at: Ref<'TestContext'>;
}

function agree(model: Model, { kernel, at }: Real): void {
  const published = [...model.entries()].filter(([, ref]) => ref > 0).sort(([a], [b]) => a - b);
  const found: [number, number][] = [];
  for (let id = Context.ids.next(kernel, at, 0); id !== 0; id = Context.ids.next(kernel, at, id)) found.push([id, Context.ids.get(kernel, at, id)]);
  expect(found).toEqual(published);
  const beyond = Math.max(0, ...model.keys()) + 1;
  for (const id of [...model.keys(), beyond]) expect(Context.ids.getUnlocked(kernel, at, id)).toBe(Context.ids.get(kernel, at, id));
}

const command = (name: string, run: (model: Model, real: Real) => void): fc.Command<Model, Real> => ({
  check: () => true,
  run(model, real) {
    run(model, real);
    agree(model, real);
  },
  toString: () => name,
});

/** Some taken id of the wanted kind, spread over the table. */
function pick(model: Model, seed: number, wanted: (ref: number) => boolean): number | undefined {
  const ids = [...model.keys()].filter((id) => wanted(model.get(id)!));
  return ids[seed % ids.length];
}

test('behaves as a map from ids to references whatever is reserved, published, erased and buried', () => {
  const seed = fc.nat();
  const commands = fc.commands(
    [
      fc.integer({ min: 1, max: 90 }).map((count) =>
        command(`reserve ${count}`, (model, { kernel, at }) => {
          for (let i = 0; i < count; i++) {
            let lowest = 1;
            while (model.has(lowest)) lowest++;
            expect(Context.ids.reserve(kernel, at)).toBe(lowest);
            model.set(lowest, 0);
          }
        }),
      ),
      fc.tuple(seed, fc.integer({ min: 1, max: 0xffff })).map(([at, ref]) =>
        command(`publish ${at}`, (model, real) => {
          const id = pick(model, at, (known) => known === 0);
          if (id === undefined) return;
          Context.ids.publish(real.kernel, real.at, id, ref as Ref);
          model.set(id, ref);
        }),
      ),
      fc.tuple(seed, fc.integer({ min: 1, max: 80 })).map(([at, count]) =>
        command(`erase ${at} ${count}`, (model, real) => {
          for (let i = 0; i < count; i++) {
            const id = pick(model, at + i * 7, (known) => known >= 0);
            if (id === undefined) return;
            expect(Context.ids.erase(real.kernel, real.at, id)).toBe(model.get(id));
            model.delete(id);
          }
        }),
      ),
      seed.map((at) =>
        command(`tombstone ${at}`, (model, real) => {
          const id = pick(model, at, (known) => known >= 0);
          if (id === undefined) return;
          expect(Context.ids.tombstone(real.kernel, real.at, id)).toBe(model.get(id));
          model.set(id, -1);
        }),
      ),
    ],
    { maxCommands: 60 },
  );
  const kernel = Host.create(65_536, 4 << 20).kernel;
  fc.assert(
    fc.property(commands, (list) => {
      const at = Context.create(kernel);
      const live = liveObjects(kernel);
      fc.modelRun(() => ({ model: new Map(), real: { kernel, at } }), list);
      Context.ids.destroy(kernel, at);
      expect(liveObjects(kernel)).toBe(live);
      Context.free(kernel, at);
    }),
    { numRuns: 100 },
  );
});
