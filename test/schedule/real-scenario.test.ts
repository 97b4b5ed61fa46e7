import { summary } from '#src/commands/explore';
import { explore } from '#src/explore';
import { Terminal } from '#src/terminal';
import { expect, test } from 'vitest';

test('on a small scenario of the real kernel a bounded search comes to its end, faults included, and the summary says how many traces there are', async () => {
  const options = { scenario: 'surprise-removal', seed: 1, strategy: 'icb1', schedules: null, budgetMs: null, vms: null };
  const result = await explore({ ...options, variant: 'correct' });
  expect(result).toMatchObject({ violation: null, complete: true, bound: 1 });
  expect(result.schedules).toBeGreaterThan(result.coverage.traceClasses);
  expect(summary(result, new Terminal(true))[1]).toContain(`: all ${result.coverage.traceClasses} traces, bound 1`);
  const broken = await explore({ ...options, variant: 'vtd-pasid-torn-teardown' });
  expect([broken.violation?.invariant, broken.violation?.faults, broken.complete]).toEqual(['C6', 1, false]);
});
