/** The models that strategies are measured by, as scenarios: what is wrong is found, what is right is exhausted. */
import { findScenario, modelNames } from '#src/catalogue';
import { explore } from '#src/explore';
import { actorsOf, parametersOf } from '#src/scenario';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';

const cli = createRequire(import.meta.url).resolve('#src/cli');
const run = (...args: string[]) => spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8' });

const broken = { 'missed-signal': 'LIVELOCK', 'stale-hit': 'CHECK', 'torn-pointer': 'CHECK', 'use-after-replace': 'CHECK' };
const traces = { 'adds-2x4': 70, 'fill-vs-unmap': 8, 'three-locks': 6 };
const order = { variant: 'correct', seed: 1, schedules: null, budgetMs: null, vms: null } as const;

test('every model is wrong or has a known number of traces, and needs no device', async () => {
  expect(modelNames()).toEqual([...Object.keys(broken), ...Object.keys(traces), 'adds-3x4'].sort());
  for (const name of modelNames()) {
    const { value } = await findScenario(name);
    expect(new Set(Object.values(actorsOf(value, parametersOf(value, null))).map(({ role }) => role))).toEqual(new Set(['vm']));
  }
});

test.for(Object.entries(broken))('what is wrong with %s is found as %s, shrunk to two switches at most, and told', async ([scenario, invariant]) => {
  const { violation, story, complete, bound } = await explore({ ...order, scenario, strategy: 'portfolio', schedules: 1_000 });
  expect(violation?.invariant).toBe(invariant);
  expect(violation!.switches).toBeLessThanOrEqual(2);
  expect(story.length).toBeGreaterThan(4);
  expect(story.length).toBeLessThanOrEqual(25);
  expect(violation!.steps.length).toBeLessThan(200);
  expect({ complete, bound }).toEqual({ complete: false, bound: null });
});

test.for(Object.entries(traces))('dpor runs all of %s and is done: %d traces', async ([scenario, count]) => {
  const { violation, schedules, complete, coverage } = await explore({ ...order, scenario, strategy: 'dpor' });
  expect(violation).toBeNull();
  expect({ schedules, complete, traces: coverage.traceClasses }).toEqual({ schedules: count, complete: true, traces: count });
});

test('a search that is stopped before its end does not say that it is complete', async () => {
  const { schedules, complete } = await explore({ ...order, scenario: 'adds-3x4', strategy: 'dpor', schedules: 50 });
  expect({ schedules, complete }).toEqual({ schedules: 50, complete: false });
});

describe('the command line', () => {
  test('says how many traces there are, within which bound, and what was covered', () => {
    const { status, stdout } = run('explore', 'three-locks', '--strategy', 'icb', '--bound', '1');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^three-locks, correct: every schedule holds$/m);
    expect(stdout).toMatch(/^116 schedules \(icb, seed 1\) in .*: all 6 traces, bound 1$/m);
    expect(stdout).toMatch(/^covered: 6 traces, \d+ hand-offs, \d+ racing pairs$/m);
  });

  test('answers the same as one JSON object', () => {
    const { stdout } = run('explore', 'adds-2x4', '--strategy', 'dpor', '--json');
    const coverage = { handOffs: 2, racingPairs: 1, traceClasses: 70, unseen: null, truncated: false };
    expect(JSON.parse(stdout)).toMatchObject({ strategy: 'dpor', schedules: 70, complete: true, tooLong: false, bound: null, coverage, violation: null });
  });

  test.for([
    [['--bound', '2'], "--bound is for --strategy icb, not for 'portfolio'"],
    [['--strategy', 'pct0'], "strategy 'pct0': the depth is 1 to 16"],
    [['--strategy', 'dpor2'], "strategy 'dpor' takes no number"],
  ] as const)('refuses %s in one line', ([flags, message]) => {
    const { status, stderr } = run('explore', 'three-locks', ...flags);
    expect({ status, stderr }).toEqual({ status: 2, stderr: `dmarena: ${message}\n` });
  });
});
