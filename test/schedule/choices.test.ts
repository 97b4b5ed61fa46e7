/** Choices between alternatives, such as faults: strategies make them, tokens carry them, shrinking leaves them out. */
import { firstAlternative, type Switch } from '#src/schedule/board';
import { shrink, type Attempt } from '#src/schedule/shrink';
import { classesOf } from '#src/schedule/coverage';
import { decodeToken, encodeToken } from '#src/schedule/token';
import { afterEach, describe, expect, test } from 'vitest';
import { openCell, type Cell } from './cell.ts';

let cell: Cell;
afterEach(() => cell?.close());
const open = async (model: string): Promise<Cell> => (cell = await openCell(model, { compares: true }));

// Ways to merge 0, 1 or 2 additions with two; then of one or two with one or two.
describe.for([['adds-0-to-2', 1 + 3 + 6], ['adds-perhaps', 2 + 3 + 3 + 6]] as const)('%s', ([model, count]) => {
  test('dpor tries every alternative in every order that matters once, and is done', async () => {
    const { commander } = await open(model);
    const { schedules, isComplete, violation, cover } = await commander.explore({ strategy: 'dpor', count: 1_000, seed: 1 });
    expect({ schedules, isComplete, violation, classes: classesOf(cover).length }).toEqual({ schedules: count, isComplete: true, violation: null, classes: count });
  });

  test('every interleaving with every alternative has the classes that dpor has', async () => {
    const { commander } = await open(model);
    const reduced = await commander.explore({ strategy: 'dpor', count: 1_000, seed: 1 });
    const all = await commander.explore({ strategy: 'icb9', count: 1_000, seed: 1 });
    expect(all.isComplete).toBe(true);
    expect(classesOf(all.cover)).toEqual(classesOf(reduced.cover));
  });

  test('sampling comes across nothing else, but across more than without faults', async () => {
    const { commander } = await open(model);
    const all = new Set(classesOf((await commander.explore({ strategy: 'dpor', count: 1_000, seed: 1 })).cover));
    const some = classesOf((await commander.explore({ strategy: 'random', count: 1_000, seed: 1 })).cover);
    expect(some.filter((one) => !all.has(one))).toEqual([]);
    expect(some.length).toBeGreaterThan(4);
  });

  test('a choice is no preemption: without any, all alternatives are tried', async () => {
    const { commander } = await open(model);
    const { cover } = await commander.explore({ strategy: 'icb0', count: 1_000, seed: 1 });
    expect(classesOf(cover)).toHaveLength(model === 'adds-0-to-2' ? 1 + 2 + 2 : 8);
  });
});

describe('a failure that needs a fault', () => {
  test.for(['random', 'pct', 'pos', 'dpor', 'icb'])('is found by %s, shrinks to one fault and two switches at most, and replays from its token', async (strategy) => {
    const { commander, board, resets } = await open('fails-badly');
    const found = await commander.explore({ strategy, count: 3_000, seed: 4 });
    expect(found.violation?.message).toBe('it has failed and goes on');
    const replay = async (switches: readonly Switch[]): Promise<Attempt> => {
      const again = await commander.replay({ switches });
      return { sameFailure: again.violation?.invariant === 'MODEL', switches: again.switches!, steps: again.steps };
    };
    expect(await replay(found.switches!)).toMatchObject({ sameFailure: true, steps: found.steps });
    const small = await shrink({ switches: found.switches!, steps: found.steps }, replay, { actors: board.actors });
    const [faults, switches] = [true, false].map((isFault) => small.switches.filter(({ next }) => next >= firstAlternative === isFault));
    expect(faults).toHaveLength(1);
    expect(switches!.length).toBeLessThanOrEqual(2);
    const token = encodeToken({ scenario: 'fails-badly', variantTag: null, codeHash: 'x', seed: 1, parameters: [], switches: small.switches });
    expect(token.length).toBeLessThanOrEqual(64);
    const { hashes, failures } = await commander.replay({ switches: decodeToken(token).switches, times: 100 });
    expect({ hashes: hashes.length, failures }).toEqual({ hashes: 1, failures: 100 });
    expect(resets().different).toBe(0);
  });

  test('is not there without faults: nobody is made to fail by the default', async () => {
    const { commander } = await open('fails-badly');
    const { violation, trace } = await commander.replay({ switches: [], trace: true });
    expect(violation).toBeNull();
    expect(trace.filter(({ op, value }) => op === 'CHOICE' && value === 0)).toHaveLength(6);
  });
});

describe('hardware that is late', () => {
  const late: Switch = { actor: 0, count: 1, next: firstAlternative + 1 };

  test('acts when nobody else can go on, without a switch, until it is in time again', async () => {
    const { commander, resets } = await open('late-engine');
    expect((await commander.replay({ switches: [] })).violation).toBeNull();
    const { violation, switches, hashes, failures } = await commander.replay({ switches: [late], times: 50 });
    expect(violation?.message).toBe('it was asked and has not answered');
    expect([switches, hashes.length, failures]).toEqual([[late], 1, 50]);
    expect(resets().different).toBe(0);
  });

  test('is a choice that shrinking keeps where it saves switches, and exhaustive strategies come to an end with it', async () => {
    const { commander, board } = await open('late-engine');
    const found = await commander.explore({ strategy: 'icb', count: 1_000, seed: 1 });
    const replay = async (switches: readonly Switch[]): Promise<Attempt> => {
      const again = await commander.replay({ switches });
      return { sameFailure: again.violation?.invariant === 'MODEL', switches: again.switches!, steps: again.steps };
    };
    expect((await shrink({ switches: found.switches!, steps: found.steps }, replay, { actors: board.actors })).switches).toHaveLength(1);
    const all = await commander.explore({ strategy: 'icb2', count: 1_000, seed: 1, goesOn: true });
    expect([all.isComplete, all.failures > 0]).toEqual([true, true]);
  });
});
