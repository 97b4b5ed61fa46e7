import { event, History, historyBytes, type Cursor } from '#hostmem/history';
import { Host } from '#hostmem/host';
import { breach, invariant, type Breach } from '#src/check/invariant';
import { Judge } from '#src/check/judge';
import { View } from '#src/check/view';
import { World } from '#src/world';
import { expect, test } from 'vitest';

const Tick = event('test-tick', ['number']);
const Noise = event('test-noise', []);

/** Remembers the numbers it was shown; 13 breaks it; looks after a tick, and finds what it is told to. */
function witness() {
  const shown: number[][] = [];
  const looks: number[] = [];
  const found: { breach: Breach | null } = { breach: null };
  const one = invariant<number[]>({
    id: 'T1',
    claim: 'a test\'s own claim',
    events: [Tick],
    start() {
      const state: number[] = [];
      shown.push(state);
      return state;
    },
    step(state, cursor: Cursor) {
      state.push(Tick.get.number(cursor));
      return state.at(-1) === 13 ? breach('thirteen') : null;
    },
    inspectAfter: [Tick],
    inspect(state) {
      looks.push(state.length);
      return found.breach;
    },
  });
  return { one, shown, looks, found };
}

function setUp(rings: number) {
  const { one, shown, looks, found } = witness();
  const world = new World();
  const history = new History(new SharedArrayBuffer(historyBytes(rings, 64)), rings, 64);
  world.host.kernel.history = history;
  const judge = new Judge([one], history, new View(world.host.buffers));
  const tick = (number: number, ring = 0): void => {
    history.ring = ring;
    Tick.emit(world.host.kernel, number);
  };
  return { world, history, judge, tick, shown, looks, found };
}

test('rings are merged in the order of their stamps', () => {
  const { judge, tick, shown, history, world } = setUp(3);
  for (const [number, ring] of [[1, 2], [2, 0], [3, 0], [4, 1], [5, 2], [6, 0]] as const) {
    tick(number, ring);
    Noise.emit(world.host.kernel);
  }
  expect(judge.catchUp()).toBeNull();
  expect(shown).toEqual([[1, 2, 3, 4, 5, 6]]);
  tick(7, 1);
  history.ring = 2;
  expect(judge.catchUp()).toBeNull();
  expect(shown[0]!.at(-1)).toBe(7);
});

test('every event is shown once, and a breach names the invariant', () => {
  const { judge, tick, shown } = setUp(1);
  tick(1);
  judge.catchUp();
  judge.catchUp();
  tick(13);
  tick(2);
  expect(judge.catchUp()).toEqual({ invariant: 'T1', message: 'thirteen', words: [] });
  expect(judge.catchUp()).toBeNull();
  expect(shown).toEqual([[1, 13, 2]]);
});

test('a new epoch starts anew', () => {
  const { judge, tick, shown, history } = setUp(2);
  tick(1, 1);
  judge.catchUp();
  history.reset();
  tick(2, 0);
  judge.catchUp();
  expect(shown).toEqual([[1], [2]]);
});

test('a new slice keeps what is known', () => {
  const { judge, tick, shown, history } = setUp(2);
  tick(1, 1);
  tick(2, 0);
  judge.quiescence();
  history.clear();
  judge.nextSlice();
  tick(3, 0);
  judge.quiescence();
  expect(shown).toEqual([[1, 2, 3]]);
});

test('every event is folded when it is told of; only those whose moment it is look then; at rest all look', () => {
  const { judge, tick, shown, looks, found } = setUp(1);
  tick(1);
  expect(judge.moment(Noise.kind)).toBeNull();
  expect([shown[0]!.length, looks]).toEqual([1, []]);
  expect(judge.moment(Tick.kind)).toBeNull();
  expect([shown[0]!.length, looks]).toEqual([1, [1]]);
  found.breach = breach('seen');
  expect(judge.moment(Tick.kind)).toMatchObject({ invariant: 'T1', message: 'seen' });
  expect(judge.quiescence()).toMatchObject({ message: 'seen' });
  tick(13);
  expect(judge.quiescence()).toMatchObject({ message: 'thirteen' });
});

test('a view knows the groups of the functions, and another host\'s are not its own', () => {
  const world = new World();
  world.group('A', 'B');
  world.group('C');
  const view = new View(world.host.buffers);
  expect([0x28, 0x29, 0x30, 0x31].map((rid) => view.groupOf(rid))).toEqual([1, 1, 2, -1]);
  expect(view.host.kernel.control).toBeNull();
  expect(view.host === world.host).toBe(false);
  expect(view.host).toBeInstanceOf(Host);
});
