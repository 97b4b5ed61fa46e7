import fc from 'fast-check';
import { Host } from '#hostmem/host';
import { intervalTree, type IntervalNode } from '#hostmem/interval-tree';
import { mutex } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import { liveObjects, NULL, UseAfterFree, type Ref } from '#hostmem/object';
import { object } from '#hostmem/struct';
import { expect, test } from 'vitest';
import { Recorder } from './recorder.ts';

const Space = object('TestSpace', { lock: mutex, areas: intervalTree.under('lock'), loose: intervalTree });
type Space = Ref<'TestSpace'>;

interface Interval {
  start: bigint;
  last: bigint;
  value: number;
  node: IntervalNode;
}
interface Real {
  kernel: Memory;
  at: Space;
  values: number;
}

const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
const low = (value: bigint): number => Number(BigInt.asIntN(32, value));
const wide = (above: number, below: number): bigint => (BigInt(above >>> 0) << 32n) | BigInt(below >>> 0);
const insert = (kernel: Memory, at: Space, start: bigint, last: bigint, value: number): IntervalNode =>
  Space.areas.insert(kernel, at, high(start), low(start), high(last), low(last), value as Ref);

/** What the tree says overlaps, in its order. */
function overlaps(kernel: Memory, at: Space, start: bigint, last: bigint): number[] {
  const found: number[] = [];
  const areas = Space.areas;
  let node = areas.first(kernel, at, high(start), low(start), high(last), low(last));
  while (node !== NULL) {
    found.push(areas.value(kernel, node));
    node = areas.next(kernel, at, node, high(start), low(start), high(last), low(last));
  }
  return found;
}

/** The oracle: a sorted array; intervals with one start stay in the order of their insertion. */
const expected = (model: Interval[], start: bigint, last: bigint): number[] =>
  model.filter((interval) => interval.start <= last && interval.last >= start).map((interval) => interval.value);

const max = 2n ** 64n - 1n;
const edge = fc.oneof(
  fc.bigInt({ min: 0n, max: 40n }),
  fc.bigInt({ min: 0xfffffff0n, max: 0x10000000fn }),
  fc.bigInt({ min: 0x7ffffffffffffff0n, max: 0x800000000000000fn }),
  fc.bigInt({ min: max - 40n, max }),
  fc.bigInt({ min: 0n, max }),
);
const range = fc.tuple(edge, edge).map(([a, b]) => (a <= b ? ([a, b] as const) : ([b, a] as const)));

const command = (name: string, run: (model: Interval[], real: Real) => void): fc.Command<Interval[], Real> => ({
  check: () => true,
  run(model, real) {
    run(model, real);
    expect(Space.areas.audit(real.kernel, real.at)).toBe(model.length);
    expect(overlaps(real.kernel, real.at, 0n, max)).toEqual(expected(model, 0n, max));
  },
  toString: () => name,
});

const inserting = ([start, last]: readonly [bigint, bigint]): fc.Command<Interval[], Real> =>
  command(`insert [${start}, ${last}]`, (model, real) => {
    const value = ++real.values;
    const node = insert(real.kernel, real.at, start, last, value);
    const index = model.findIndex((interval) => interval.start > start);
    model.splice(index < 0 ? model.length : index, 0, { start, last, value, node });
  });

const removing = (seed: number): fc.Command<Interval[], Real> =>
  command(`remove ${seed}`, (model, { kernel, at }) => {
    const interval = model.splice(seed % (model.length || 1), 1)[0];
    if (interval === undefined) return;
    expect(wide(Space.areas.startHigh(kernel, interval.node), Space.areas.startLow(kernel, interval.node))).toBe(interval.start);
    expect(wide(Space.areas.lastHigh(kernel, interval.node), Space.areas.lastLow(kernel, interval.node))).toBe(interval.last);
    Space.areas.remove(kernel, at, interval.node);
  });

const finding = ([start, last]: readonly [bigint, bigint]): fc.Command<Interval[], Real> =>
  command(`find [${start}, ${last}]`, (model, { kernel, at }) => expect(overlaps(kernel, at, start, last)).toEqual(expected(model, start, last)));

test('finds what a sorted list of intervals finds, in its order, over all 64 bits, and stays a treap with right maxima', () => {
  const kernel = Host.create(65_536, 1 << 20).kernel;
  fc.assert(
    fc.property(fc.commands([range.map(inserting), range.map(inserting), fc.nat().map(removing), range.map(finding)], { maxCommands: 80 }), (list) => {
      const at = Space.create(kernel);
      const live = liveObjects(kernel);
      fc.modelRun(() => ({ model: [], real: { kernel, at, values: 0 } }), list);
      Space.areas.clear(kernel, at);
      expect(Space.areas.isEmpty(kernel, at)).toBe(true);
      expect(liveObjects(kernel)).toBe(live);
      Space.free(kernel, at);
    }),
    { numRuns: 200 },
  );
});

test('of ten thousand neighbours a range finds those that it touches', () => {
  const kernel = Host.create(65_536, 4 << 20).kernel;
  const at = Space.create(kernel);
  for (let i = 0n; i < 10_000n; i++) insert(kernel, at, i * 4096n, i * 4096n + 4095n, Number(i) + 1);
  expect(Space.areas.audit(kernel, at)).toBe(10_000);
  expect(overlaps(kernel, at, 4096n * 5_000n - 1n, 4096n * 5_001n)).toEqual([5_000, 5_001, 5_002]);
});

test('an interval that ends before it starts is refused, and a removed one is dead', () => {
  const kernel = Host.create(65_536, 1 << 20).kernel;
  const at = Space.create(kernel);
  expect(() => insert(kernel, at, 2n ** 63n, 5n, 1)).toThrow(/ends before/);
  const node = insert(kernel, at, 5n, 5n, 1);
  Space.areas.remove(kernel, at, node);
  expect(() => Space.areas.value(kernel, node)).toThrow(UseAfterFree);
  while (Space.tryCreate(kernel) !== NULL);
  expect(insert(kernel, at, 5n, 5n, 1)).toBe(NULL);
});

test('under its lock the tree is no point; without it every use is one and is reported', () => {
  const kernel = Host.create(65_536, 1 << 20).kernel;
  const at = Space.create(kernel);
  const recorder = new Recorder();
  kernel.control = recorder;
  Space.lock.acquire(kernel, at);
  insert(kernel, at, 1n, 2n, 1);
  const second = insert(kernel, at, 2n, 3n, 2);
  expect(overlaps(kernel, at, 2n, 2n)).toEqual([1, 2]);
  Space.lock.release(kernel, at);
  expect(recorder.points).toEqual(['LOCK TestSpace.lock', 'UNLOCK TestSpace.lock']);
  expect(recorder.guardedWrites).toEqual(['TestSpace.areas', 'TestSpace.areas']);
  expect(recorder.unguardedLabels).toEqual([]);
  Space.areas.first(kernel, at, 0, 0, 0, 9);
  Space.areas.remove(kernel, at, second);
  expect(recorder.points.slice(2)).toEqual(['READ', 'READ', 'WRITE'].map((op) => `${op} TestSpace.areas`));
  expect(recorder.unguardedLabels).toEqual(['TestSpace.areas', 'TestSpace.areas', 'TestSpace.areas']);
});

test('a tree without a guard is one point for each use', () => {
  const kernel = Host.create(65_536, 1 << 20).kernel;
  const at = Space.create(kernel);
  const recorder = new Recorder();
  kernel.control = recorder;
  Space.loose.insert(kernel, at, 0, 1, 0, 2, 1 as Ref);
  expect(Space.loose.isEmpty(kernel, at)).toBe(false);
  expect(recorder.points).toEqual(['READ TestSpace.loose', 'WRITE TestSpace.loose', 'READ TestSpace.loose']);
});
