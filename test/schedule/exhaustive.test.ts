/** Strategies that end by themselves have seen all there is: their traces are those of every interleaving there can be. */
import { classesOf } from '#src/schedule/coverage';
import type { ExplorationOutcome } from '#src/schedule/commander';
import { afterEach, describe, expect, test } from 'vitest';
import { openCell, type Cell } from './cell.ts';

let cell: Cell | null = null;

async function exhaust(model: string, strategy: string): Promise<ExplorationOutcome> {
  cell ??= await openCell(model);
  return cell.commander.explore({ strategy, count: 100_000, seed: 1, goesOn: true });
}

afterEach(async () => {
  await cell?.close();
  cell = null;
});

/** More preemptions than any of the models has steps: every interleaving. */
const bruteForce = 'icb99';

describe('dpor', () => {
  test.for([['three-locks', 6], ['fill-vs-unmap', 8], ['adds-2x4', 70], ['torn-pointer', 6], ['use-after-replace', 5], ['calls', 6], ['calls-unheard', 1]] as const)(
    'runs one schedule for each trace of %s: %d',
    async ([model, traces]) => {
      const { schedules, isComplete, cover } = await exhaust(model, 'dpor');
      expect({ schedules, isComplete, traces: classesOf(cover).length }).toEqual({ schedules: traces, isComplete: true, traces });
    },
  );

  test('runs one schedule for each of the 34,650 orders of twelve additions', async () => {
    const { schedules, isComplete, violation, cover } = await exhaust('adds-3x4', 'dpor');
    expect(violation).toBeNull();
    expect({ schedules, isComplete, traces: classesOf(cover).length }).toEqual({ schedules: 34_650, isComplete: true, traces: 34_650 });
  }, 60_000);

  test.for(['three-locks', 'fill-vs-unmap', 'adds-2x4', 'torn-pointer', 'use-after-replace', 'stale-hit', 'lost-update', 'abba', 'dangling', 'engine', 'throws', 'two-readers', 'waits', 'calls', 'call-beside-others', 'tells-perhaps', 'frees-in-a-call', 'adds-0-to-2', 'adds-perhaps'])(
    'finds the traces of every interleaving of %s, those that broke off, hung or were freed under among them',
    { timeout: 60_000 },
    async (model) => {
      const reduced = await exhaust(model, 'dpor');
      const all = await exhaust(model, bruteForce);
      expect(all.isComplete && reduced.isComplete).toBe(true);
      expect(classesOf(reduced.cover)).toEqual(classesOf(all.cover));
      expect(reduced.failures > 0).toBe(all.failures > 0);
      expect(reduced.schedules).toBeLessThanOrEqual(all.schedules);
      // A step with alternatives in it is woken by what any of them has touched: seldom in vain.
      if (model !== 'tells-perhaps') expect(reduced.schedules).toBe(classesOf(reduced.cover).length);
    },
  );

  test('ends with the first failure unless it is told to go on', async () => {
    cell = await openCell('torn-pointer');
    const { violation, isComplete, failures } = await cell.commander.explore({ strategy: 'dpor', count: 1_000, seed: 1 });
    expect(violation?.invariant).toBe('MODEL');
    expect({ isComplete, failures }).toEqual({ isComplete: false, failures: 1 });
  });

  test('gives up, and says so, where a schedule is longer than the board', async () => {
    cell = await openCell('adds-3x4', { stackCapacity: 8 });
    const { isComplete, isTooLong, schedules } = await cell.commander.explore({ strategy: 'dpor', count: 1_000, seed: 1 });
    expect({ isComplete, isTooLong, schedules }).toEqual({ isComplete: false, isTooLong: true, schedules: 1 });
  });

  test('gives the same schedules again, and is refused a share of them', async () => {
    const [one, other] = [await exhaust('stale-hit', 'dpor'), await exhaust('stale-hit', 'dpor')];
    expect(other.hash).toBe(one.hash);
    await expect(cell!.commander.explore({ strategy: 'dpor', first: 1, stride: 2, count: 5, seed: 1 })).rejects.toThrow(/in one cell/);
  });
});

describe('icb', () => {
  test('runs every interleaving once: as many as there are ways to merge four steps with four', async () => {
    const { schedules, isComplete } = await exhaust('adds-2x4', bruteForce);
    expect({ schedules, isComplete }).toEqual({ schedules: 70, isComplete: true });
  });

  test.for([[0, 2], [1, 8], [2, 26], [3, 44], [4, 62], [5, 68], [6, 70], [7, 70]] as const)('with %d preemptions at most, two actors of four steps have %d schedules', async ([bound, count]) => {
    const { schedules, isComplete } = await exhaust('adds-2x4', `icb${bound}`);
    expect({ schedules, isComplete }).toEqual({ schedules: count, isComplete: true });
  });

  test('finds the failure with the fewest preemptions first', async () => {
    cell = await openCell('stale-hit');
    const { violation, switches } = await cell.commander.explore({ strategy: 'icb', count: 10_000, seed: 1 });
    expect(violation?.invariant).toBe('MODEL');
    expect(switches!.length).toBeLessThanOrEqual(2);
    const none = await cell.commander.explore({ strategy: 'icb0', count: 10_000, seed: 1 });
    expect({ violation: none.violation, isComplete: none.isComplete }).toEqual({ violation: null, isComplete: true });
  });
});
