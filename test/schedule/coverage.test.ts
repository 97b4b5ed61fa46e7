import { classesOf } from '#src/schedule/coverage';
import { sumUp } from '#src/covered';
import { expect, test } from 'vitest';
import { openCell } from './cell.ts';

test('two schedules that differ in what is independent are of one class, whatever the strategy', async () => {
  const cell = await openCell('three-locks');
  const { cover, schedules } = await cell.commander.explore({ strategy: 'random', count: 2_000, seed: 3 });
  const all = await cell.commander.explore({ strategy: 'dpor', count: 100, seed: 1 });
  expect(classesOf(cover)).toEqual(classesOf(all.cover));
  expect(sumUp([cover], schedules, false)).toMatchObject({ traceClasses: 6, unseen: 0, truncated: false });
  await cell.close();
});

test('hand-offs and racing pairs are told apart: a lock is handed on and is no race', async () => {
  const cell = await openCell('adds-2x4');
  const adds = await cell.commander.explore({ strategy: 'dpor', count: 100, seed: 1 });
  // One word, two directions; one site that races with itself.
  expect(sumUp([adds.cover], adds.schedules, false)).toMatchObject({ handOffs: 2, racingPairs: 1, traceClasses: 70, unseen: 1 });
  await cell.close();
  const locked = await openCell('abba');
  const { cover } = await locked.commander.explore({ strategy: 'icb0', count: 100, seed: 1 });
  // Two locks and the word that both add to.
  expect(sumUp([cover], 2, false)).toMatchObject({ handOffs: 6, racingPairs: 1, traceClasses: 2 });
  await locked.close();
});

test('two cells have covered together what one has that ran all of it', async () => {
  const cell = await openCell('stale-hit');
  const order = { strategy: 'pos', seed: 8, goesOn: true } as const;
  const one = await cell.commander.explore({ ...order, count: 300 });
  const halves = [await cell.commander.explore({ ...order, first: 0, stride: 2, count: 150 }), await cell.commander.explore({ ...order, first: 1, stride: 2, count: 150 })];
  expect(sumUp(halves.map(({ cover }) => cover), 300, false)).toEqual(sumUp([one.cover], 300, false));
  expect(halves[0]!.failures + halves[1]!.failures).toBe(one.failures);
  await cell.close();
});

test('a table that is full says so, and counts no more', async () => {
  const cell = await openCell('adds-2x4', { coverCapacity: 16 });
  const { cover, isCoverTruncated } = await cell.commander.explore({ strategy: 'dpor', count: 100, seed: 1 });
  expect(isCoverTruncated).toBe(true);
  expect(classesOf(cover).length).toBeLessThanOrEqual(16);
  await cell.close();
});
