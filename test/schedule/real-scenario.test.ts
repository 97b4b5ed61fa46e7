import { CellWorker } from '#src/cell-worker';
import { choose } from '#src/chosen';
import { summary } from '#src/commands/explore';
import { explore } from '#src/explore';
import { classesOf } from '#src/schedule/coverage';
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

async function exhaust(scenario: string, strategy: string): Promise<{ schedules: number; isComplete: boolean; traces: string[] }> {
  const chosen = await choose({ scenario, variant: 'correct' });
  const { name, url } = chosen.scenario;
  const { variant, holds } = chosen;
  const cell = await CellWorker.open({ kind: 'open', scenario: { name, url }, variant: { name: variant.name, url: variant.url }, holds, seed: 1, vms: null, iommu: null, replayFlags: '' });
  const { schedules, isComplete, cover } = await cell.explore({ kind: 'explore', strategy, seed: 1, first: 0, stride: 1, count: 100_000 }, () => {});
  await cell.close();
  return { schedules, isComplete, traces: classesOf(cover) };
}

test.for(['put-object-uaf', 'kvm-vfio-lock-cycle', 'large-leaf-unmap'])(
  'of %s dpor runs every trace once, and those with at most two preemptions are among them',
  { timeout: 60_000 },
  async (scenario) => {
    const all = await exhaust(scenario, 'dpor');
    expect(all.isComplete).toBe(true);
    expect(all.schedules).toBe(all.traces.length);
    const bounded = await exhaust(scenario, 'icb2');
    expect(bounded.isComplete).toBe(true);
    const missing = bounded.traces.filter((trace) => !all.traces.includes(trace));
    expect(missing).toEqual([]);
  },
);
