/** Schedules without an end: which of them are livelocks, and which only unfair. */
import { shrink, type Attempt } from '#src/schedule/shrink';
import { periodOf } from '#src/schedule/endless';
import type { Switch } from '#src/schedule/board';
import { afterEach, describe, expect, test } from 'vitest';
import { openCell, type Cell } from './cell.ts';

const budget = 2_000;
let cell: Cell;
afterEach(() => cell?.close());

const open = async (model: string): Promise<Cell> => (cell = await openCell(model, { compares: true }));

test.for(['non-preemptive', 'random', 'pct', 'pos'])('who asks again and again for what somebody else would do is no livelock, with %s', async (strategy) => {
  const { commander, resets } = await open('spins');
  const { violation, schedules } = await commander.explore({ strategy, count: 50, seed: 1, budget });
  expect({ violation, schedules }).toEqual({ violation: null, schedules: 50 });
  expect(resets().different).toBe(0);
});

test('an exhaustive strategy does not say that it has tried everything where a schedule had to be made fair', async () => {
  const { commander } = await open('spins');
  const { violation, isComplete, isTooLong } = await commander.explore({ strategy: 'icb1', count: 50, seed: 1, budget });
  expect({ violation, isComplete, isTooLong }).toEqual({ violation: null, isComplete: false, isTooLong: true });
});

describe('who asks again and again for what nobody will do any more', () => {
  test.for(['random', 'pct', 'pos'])('is a livelock of one step, found by %s, and shrinks to at most two switches that replay', async (strategy) => {
    const { commander, board } = await open('missed-signal');
    const found = await commander.explore({ strategy, count: 300, seed: 2, budget });
    expect(found.violation?.invariant).toBe('LIVELOCK');
    const line = /^the same 1 step comes round for ever, whoever goes next: actor0: LOAD ScheduleCells\.m2 \(kernel 0x\w+\) = 0$/;
    expect(found.violation?.message).toMatch(line);
    const replay = async (switches: readonly Switch[]): Promise<Attempt> => {
      const again = await commander.replay({ switches, budget });
      return { sameFailure: again.violation?.invariant === 'LIVELOCK', switches: again.switches!, steps: again.steps };
    };
    const small = await shrink({ switches: found.switches!, steps: found.steps }, replay, { actors: board.actors });
    expect(small.switches.length).toBeLessThanOrEqual(2);
    const plain = await commander.replay({ switches: small.switches, budget, times: 20 });
    const traced = await commander.replay({ switches: small.switches, budget, trace: true });
    expect({ hashes: plain.hashes, failures: plain.failures }).toEqual({ hashes: [traced.hash], failures: 20 });
    expect(traced.violation?.message).toMatch(line);
  });
});

test('two who give way to each other for ever are a livelock that says what each of them does and who waits', async () => {
  const { commander } = await open('after-you');
  const { violation } = await commander.explore({ strategy: 'pct', count: 400, seed: 1, budget });
  expect(violation?.invariant).toBe('LIVELOCK');
  expect(violation?.message).toMatch(/^the same 6 steps come round for ever/);
  for (const actor of ['actor0: ', 'actor1: ']) expect(violation?.message).toContain(actor);
  expect(violation?.message).toMatch(/; actor2 waits until ScheduleCells\.asked \(kernel 0x\w+\) is 1$/);
});

test('who does the same again and again but changes memory is too long, not a livelock', async () => {
  const { commander } = await open('counts');
  const { violation } = await commander.explore({ strategy: 'random', count: 1, seed: 1, budget });
  expect(violation).toMatchObject({ invariant: 'BUDGET', message: 'the schedule takes more than 2000 steps' });
});

test.for([
  [[1, 2, 3, 1, 2, 3, 1], 3],
  [[5, 5, 5, 5], 1],
  [[1, 2, 1, 1, 2, 1], 3],
  [[1, 2, 3, 4], 4],
] as const)('the period of %j is %d', ([values, period]) => {
  expect(periodOf(values)).toBe(period);
});
