/** Every bench, run tiny: it still runs, answers with numbers, and does the same work each time. */
import { ask } from '#bench/ask';
import { questionNames } from '#bench/catalogue';
import { measure } from '#bench/measure';
import type { Answer, Question, Unit } from '#bench/question';
import { measuredRows } from '#bench/result';
import { table } from '#bench/table';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const entry = createRequire(import.meta.url).resolve('#src/cli');
const order = { tiny: true, threads: 2, seed: 1 };
const folder = mkdtempSync(join(tmpdir(), 'dmarena-bench-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [entry, 'bench', ...args], { encoding: 'utf8' });
}

test('there are benches', () => {
  expect(questionNames()).toContain('walk');
});

describe.for(questionNames())('the bench %s', (name) => {
  test('answers with finite, positive figures, and does the same work when it is asked again', async () => {
    const first = await ask({ ...order, name });
    expect(first.figures.length).toBeGreaterThan(1);
    for (const { median, p10, p90, samples, ratio, against } of first.figures) {
      expect(p10).toBeGreaterThan(0);
      expect(p10 <= median && median <= p90 && p90 < Infinity).toBe(true);
      expect(samples).toBeGreaterThan(0);
      expect(ratio === null).toBe(against === null);
      if (ratio !== null) expect(ratio > 0 && ratio < Infinity).toBe(true);
    }
    expect(first.asks).toMatch(/\?$/);
    expect(table(first.asks, measuredRows(first, null)).split('\n')).toHaveLength(first.figures.length + 1);
    const second = await ask({ ...order, name });
    const work = ({ figures }: Answer) => figures.map(({ name: row, checksum }) => [row, checksum]);
    expect(work(second)).toEqual(work(first));
  });
});

describe('measuring', () => {
  const question = (call: () => number, against?: string): Question => ({
    asks: 'is it?',
    prepare: () => ({ rows: [{ name: 'row', operations: 1, call, ...(against === undefined ? {} : { against }) }] }),
  });

  test('a row whose calls do not all do the same work is an error, not a figure', () => {
    let calls = 0;
    expect(() => measure('drifting', question(() => calls++), true, order)).toThrow(/^row: a call returned [1-9], the first one 0$/);
  });

  test('a ratio to a row that is not there is an error', () => {
    expect(() => measure('lonely', question(() => 1, 'nothing'), true, order)).toThrow("row: there is no row 'nothing'");
  });

  test('a bench that cannot be loaded is an error, not a hang', async () => {
    await expect(ask({ ...order, name: 'no-such-bench' })).rejects.toThrow('no-such-bench');
  });
});

describe('the command', () => {
  const baseline = join(folder, 'before.json');

  test('answers the benches that it names, as one JSON object', () => {
    const { status, stdout } = run('map-unmap', '--tiny', '--json');
    expect(status).toBe(0);
    const answer = JSON.parse(stdout) as { benches: object[] };
    expect(answer).toMatchObject({ machine: expect.any(String), node: process.version, seed: 1, threads: 2, tiny: true });
    expect(answer.benches.length).toBeGreaterThan(2);
    for (const row of answer.benches) expect(row).toMatchObject({ name: 'map-unmap', case: expect.any(String), unit: 'ns/op', samples: 2 });
    writeFileSync(baseline, stdout);
  });

  test('holds a run against an earlier one, row by row', () => {
    const { benches } = JSON.parse(run('map-unmap', '--tiny', '--json', '--baseline', baseline).stdout) as { benches: { median: number; before: number; overBefore: number }[] };
    for (const { median, before, overBefore } of benches) expect(overBefore).toBeCloseTo(median / before, 6);
    expect(run('map-unmap', '--tiny', '--baseline', baseline).stdout).toMatch(/ x before\n/);
  });

  writeFileSync(join(folder, 'other.json'), '{"benches": 1}');
  writeFileSync(join(folder, 'none.json'), '12:');
  test.for([
    ['map-unmpa'], ['map-unmap', '--tinny'], ['map-unmap', 'walks', '--tiny'], ['map-unmap', '--threads', '1'], ['map-unmap', '--threads', 'two'], ['map-unmap', '--seed', '0'],
    ['map-unmap', '--baseline', join(folder, 'gone.json')], ['map-unmap', '--baseline', join(folder, 'other.json')], ['map-unmap', '--baseline', join(folder, 'none.json')],
    ['map-unmap', '--baseline', folder],
  ])('refuses %s in one line, before anything is measured', (args) => {
    const { status, stdout, stderr } = run(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^(bench|dmarena): .+\n$/);
  });
});

describe('figures', () => {
  const unitOf = (unit: Unit) => measure('units', {
    asks: 'what?',
    prepare: () => ({ rows: [{ name: 'one', operations: 10, call: () => 1 }, { name: 'other', operations: 10, against: 'one', unit, call: () => 1 }] }),
  }, true, order).figures[1]!;

  test('a throughput is the inverse of a time, and a speed-up that of a ratio', () => {
    expect(unitOf('op/s').median).toBeGreaterThan(1e3);
    const { median, ratio } = unitOf('ratio');
    expect(median * ratio!).toBeCloseTo(1, 6);
  });

  test('a row that did other work than its baseline is not compared with it', () => {
    const figures = [{ name: 'row', unit: 'ns/op' as const, median: 6, p10: 5, p90: 7, samples: 3, checksum: 1, against: null, ratio: null, mib: null }];
    const answer: Answer = { name: 'bench', asks: 'what?', figures };
    const before = (checksum: number) => ({
      machine: '', node: '', seed: 1, threads: 2, tiny: false,
      benches: [{ name: 'bench', case: 'row', unit: 'ns/op' as const, median: 3, p10: 3, p90: 3, samples: 3, checksum }],
    });
    expect(measuredRows(answer, before(1))[0]).toMatchObject({ before: 3, overBefore: 2 });
    expect(measuredRows(answer, before(2))[0]).not.toHaveProperty('overBefore');
  });
});
