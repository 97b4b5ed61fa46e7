/**
 * Makes the programs of a failing schedule short: leaves out whole programs, then ever shorter runs of steps (ddmin, Zeller and
 * Hildebrandt 2002). What is left of a program is the same as before, but other operations have other numbers, so that the schedule may
 * no longer fit: then a few others are tried.
 */
import type { Switch } from './board.ts';
import type { Attempt } from './shrink.ts';

export interface Programs {
  /** The schedule that failed last, with these steps left out. */
  again(leftOut: readonly number[], switches: readonly Switch[]): Promise<Attempt>;
  /** Other schedules. */
  elsewhere(leftOut: readonly number[]): Promise<Attempt>;
}

export interface ShorterPrograms {
  readonly leftOut: readonly number[];
  readonly found: Attempt;
  /** How many schedules and explorations that took. */
  readonly replays: number;
}

/** The numbers of each program's steps, of actors that have one. */
export function stepsOfPrograms(steps: readonly number[]): number[][] {
  let next = 0;
  return steps.map((count) => Array.from({ length: count }, () => next++)).filter(({ length }) => length > 1);
}

export async function shrinkPrograms(programs: readonly (readonly number[])[], failing: Attempt, { again, elsewhere }: Programs): Promise<ShorterPrograms> {
  let leftOut: readonly number[] = [];
  let found = failing;
  let replays = 0;
  const attempt = async (more: readonly number[]): Promise<boolean> => {
    const candidate = [...leftOut, ...more].sort((a, b) => a - b);
    replays++;
    let outcome = await again(candidate, found.switches);
    if (!outcome.sameFailure) {
      replays++;
      outcome = await elsewhere(candidate);
    }
    if (!outcome.sameFailure) return false;
    leftOut = candidate;
    found = outcome;
    return true;
  };
  const left = (): number[] => programs.flat().filter((step) => !leftOut.includes(step));
  for (const program of programs) await attempt(program);
  for (let before = -1; before !== leftOut.length; ) {
    before = leftOut.length;
    for (let length = Math.floor(left().length / 2); length >= 1; length = Math.floor(length / 2)) {
      for (let from = 0; from < left().length; ) if (!(await attempt(left().slice(from, from + length)))) from += length;
    }
  }
  return { leftOut, found, replays };
}
