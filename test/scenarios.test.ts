import { explore } from '#src/explore';
import { expect, test } from 'vitest';
import { everyScenario } from './every-scenario.ts';

await everyScenario(0);

test('the same seed gives the same violation and token, whatever the order of the cells', async () => {
  const options = { scenario: 'group-replace', variant: 'replace-unlocked', seed: 4, strategy: 'random', schedules: 500, budgetMs: null, vms: null };
  const first = await explore(options);
  const second = await explore(options);
  expect(first.violation).not.toBeNull();
  expect(second.violation!.token).toBe(first.violation!.token);
});

test('an exploration with a budget of time ends without a violation of its own', async () => {
  const { violation, schedules } = await explore({ scenario: 'group-replace', variant: 'correct', seed: 1, strategy: 'portfolio', schedules: null, budgetMs: 700, vms: null });
  expect(violation).toBeNull();
  expect(schedules).toBeGreaterThan(0);
});
