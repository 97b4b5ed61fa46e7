/** How many schedules it takes to find the bugs of three small models: what was measured of other tools' prototypes, and half more. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCell, type Cell } from './cell.ts';

const seeds = 200;
const strategies = ['random', 'pct2', 'pct3', 'pos'] as const;
const measured = { 'torn-pointer': [4, 3, 3, 3], 'use-after-replace': [7, 12, 6, 6], 'stale-hit': [23, 13, 17, 15] } as const;

describe.for(Object.entries(measured))('the bug of %s', ([model, medians]) => {
  let cell: Cell;
  beforeAll(async () => {
    cell = await openCell(model);
  });
  afterAll(() => cell.close());

  test.for(strategies.map((strategy, index) => [strategy, 1.5 * medians[index]!] as const))('takes %s at most %d schedules, in the median over 200 seeds', { timeout: 60_000 }, async ([strategy, most]) => {
    const counts: number[] = [];
    for (let seed = 1; seed <= seeds; seed++) counts.push((await cell.commander.explore({ strategy, count: 5_000, seed })).schedules);
    expect(counts.toSorted((a, b) => a - b)[seeds / 2]).toBeLessThanOrEqual(most);
  });
});
