import { expect, test } from 'vitest';
import { classesOf } from '#src/schedule/coverage';
import { openCell } from './cell.ts';
test.for(['adds-3x4','three-locks','fill-vs-unmap','adds-2x4','torn-pointer','use-after-replace','stale-hit','lost-update','abba','dangling','engine','engines-agree','throws'])('%s', { timeout: 90_000 }, async (model) => {
  const cell = await openCell(model);
  const sets: string[][] = [];
  for (const strategy of ['dpor','icb99','icb0','icb1','icb2']) {
    if (['engines-agree','adds-3x4'].includes(model) && strategy !== 'dpor') continue;
    const t = performance.now();
    const r = await cell.commander.explore({ strategy, count: 60_000, seed: 1, goesOn: true });
    sets.push(classesOf(r.cover));
    console.log(model, strategy, r.schedules, r.executions, r.index, r.failures, r.isComplete, classesOf(r.cover).length, Math.round(performance.now()-t)+'ms', r.violation?.message);
  }
  await cell.close();
  if (sets[1]) expect(sets[0]).toEqual(sets[1]);
});
