/** Every bench, run tiny: it still runs, answers with numbers, and does the same work each time. */
import { ask } from '#bench/ask';
import { questionNames } from '#bench/catalogue';
import { measure } from '#bench/measure';
import type { Question } from '#bench/question';
import { table } from '#bench/table';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';

const entry = createRequire(import.meta.url).resolve('#bench/run');

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [entry, ...args], { encoding: 'utf8' });
}

test('there are benches', () => {
  expect(questionNames()).toContain('walk');
});

describe.for(questionNames())('the bench %s', (name) => {
  test('answers with finite, positive figures, and does the same work when it is asked again', async () => {
    const first = await ask({ name, tiny: true });
    expect(first.figures.length).toBeGreaterThan(1);
    for (const { nsPerOperation, ratio, against } of first.figures) {
      expect(nsPerOperation).toBeGreaterThan(0);
      expect(nsPerOperation).toBeLessThan(Infinity);
      expect(ratio === null).toBe(against === null);
      if (ratio !== null) expect(ratio > 0 && ratio < Infinity).toBe(true);
    }
    expect(first.asks).toMatch(/\?$/);
    expect(table(first).split('\n')).toHaveLength(first.figures.length + 2);
    const second = await ask({ name, tiny: true });
    expect(second.checksum).toBe(first.checksum);
    expect(second.figures.map((figure) => figure.name)).toEqual(first.figures.map((figure) => figure.name));
  });
});

describe('measuring', () => {
  const question = (call: () => number, against?: string): Question => ({
    asks: 'is it?',
    prepare: () => ({ rows: [{ name: 'row', operations: 1, call, ...(against === undefined ? {} : { against }) }] }),
  });

  test('a row whose calls do not all do the same work is an error, not a figure', () => {
    let calls = 0;
    expect(() => measure('drifting', question(() => calls++), true)).toThrow(/^row: a call returned [1-9], the first one 0$/);
  });

  test('a ratio to a row that is not there is an error', () => {
    expect(() => measure('lonely', question(() => 1, 'nothing'), true)).toThrow("row: there is no row 'nothing'");
  });

  test('a bench that cannot be loaded is an error, not a hang', async () => {
    await expect(ask({ name: 'no-such-bench', tiny: true })).rejects.toThrow('no-such-bench');
  });
});

describe('the command', () => {
  test('answers the benches that it names, as one JSON object', () => {
    const { status, stdout } = run('locks', '--tiny', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ tiny: true, answers: [{ name: 'locks' }] });
  });

  test.for([['lokcs'], ['locks', '--tinny'], ['locks', 'walks', '--tiny']])('refuses %s in one line, before anything is measured', (args) => {
    const { status, stdout, stderr } = run(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^bench: .+\n$/);
  });
});
