import { shrinkPrograms, stepsOfPrograms } from '#src/schedule/shrink-programs';
import type { Attempt } from '#src/schedule/shrink';
import type { Switch } from '#src/schedule/board';
import { expect, test } from 'vitest';

const fails = (switches: readonly Switch[] = []): Attempt => ({ sameFailure: true, switches, steps: 1 });
const holds: Attempt = { sameFailure: false, switches: [], steps: 1 };

/** Fails as long as none of the steps that it takes is left out. */
const needing = (...needed: number[]) => async (leftOut: readonly number[]): Promise<Attempt> =>
  needed.some((step) => leftOut.includes(step)) ? holds : fails();

test('only actors with more than one step have a program, and steps are numbered across all of them', () => {
  expect(stepsOfPrograms([3, 1, 2])).toEqual([[0, 1, 2], [4, 5]]);
});

test('what the failure does not need is left out, also of a program in the middle', async () => {
  const programs = stepsOfPrograms([6, 6, 1, 6]);
  const { leftOut } = await shrinkPrograms(programs, fails(), { again: needing(2, 14), elsewhere: async () => holds });
  expect(programs.flat().filter((step) => !leftOut.includes(step))).toEqual([2, 14]);
});

test('where the schedule no longer fits, another one is taken, and is tried first from then on', async () => {
  const other: Switch = { actor: 1, count: 3, next: 0 };
  const elsewhere = async (leftOut: readonly number[]): Promise<Attempt> => (leftOut.includes(1) ? holds : fails([other]));
  const again = async (leftOut: readonly number[], switches: readonly Switch[]): Promise<Attempt> =>
    switches.includes(other) && !leftOut.includes(1) ? fails(switches) : holds;
  const { leftOut, found } = await shrinkPrograms([[0, 1, 2, 3]], fails(), { again, elsewhere });
  expect(leftOut).toEqual([0, 2, 3]);
  expect(found.switches).toEqual([other]);
});
