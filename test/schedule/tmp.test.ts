import { test } from 'vitest';
import { openCell } from './cell.ts';
test.for(['torn-pointer','use-after-replace','stale-hit'])('%s', { timeout: 200_000 }, async (model) => {
  const cell = await openCell(model);
  for (const strategy of ['random','pct2','pct3','pos','portfolio']) {
    const counts: number[] = [];
    for (let seed = 1; seed <= 200; seed++) counts.push((await cell.commander.explore({ strategy, count: 3000, seed })).schedules);
    counts.sort((a, b) => a - b);
    console.log(model, strategy, 'median', counts[100], 'p90', counts[180]);
  }
  await cell.close();
});
