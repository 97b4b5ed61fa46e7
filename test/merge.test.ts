/** Shards of an exploration, each by a command of its own, and what `merge` makes of their answers. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { ExploreResult } from '#src/results';

const cli = createRequire(import.meta.url).resolve('#src/cli');
const folder = mkdtempSync(join(tmpdir(), 'dmarena-merge-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const dmarena = (...words: readonly string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, [cli, ...words, '--json'], { encoding: 'utf8' });

function explore(...words: readonly string[]): string {
  return dmarena('explore', ...words).stdout;
}

/** Explores in so many shards; the paths of their answers. */
function shards(name: string, of: number, ...words: readonly string[]): string[] {
  return Array.from({ length: of }, (_, index) => {
    const path = join(folder, `${name}-${index + 1}.json`);
    writeFileSync(path, explore(...words, '--shard', `${index + 1}/${of}`));
    return path;
  });
}

const withoutTimes = (result: ExploreResult): object => ({ ...result, shard: undefined, seconds: 0, schedulesPerSecond: 0 });
const parse = (text: string): ExploreResult => JSON.parse(text) as ExploreResult;

const correct = ['three-locks', '--schedules', '200', '--seed', '3'] as const;
const held = shards('held', 3, ...correct);

test('shards that found nothing have run and covered together what one run would have', () => {
  const { status, stdout } = dmarena('merge', ...held);
  expect(status).toBe(0);
  expect(withoutTimes(parse(stdout))).toEqual(withoutTimes(parse(explore(...correct))));
  expect(parse(stdout)).toMatchObject({ schedules: 200, coverage: { traceClasses: 6 }, violation: null });
});

test('of the violations that shards found, that with the lowest number is the one that one run would have found', () => {
  const order = ['stale-hit', '--schedules', '300', '--seed', '5', '--strategy', 'random'] as const;
  const { status, stdout } = dmarena('merge', ...shards('broken', 3, ...order).toReversed());
  const { violation, schedules } = parse(explore(...order));
  expect(violation).not.toBeNull();
  expect(status).toBe(1);
  const shrunk = { ...violation?.shrunk, ms: expect.any(Number) };
  expect(parse(stdout)).toMatchObject({ violation: { ...violation, shrunk }, schedules });
});

test.each([
  [held.slice(1), /shard 1\/3 is missing; give the results of all 3/],
  [[...held, held[1]!], /shard 2\/3 is there 2 times: \S+held-2\.json, \S+held-2\.json; give each once/],
  [[], /missing required argument/],
  [[join(folder, 'nowhere.json')], /no result can be read at '\S+nowhere\.json' \(ENOENT\)/],
] as const)('what is not every shard once is refused in one line, as %j', (paths, message) => {
  const { status, stdout, stderr } = dmarena('merge', ...paths);
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^dmarena: [^\n]+\n$/);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
});

test.each([
  ['seed', /--seed is '3' in \S+held-1\.json, '4' in/],
  ['scenario', /scenario is 'three-locks' in \S+held-1\.json, 'stale-hit' in/],
  ['code', /code is '\w{6}' in \S+held-1\.json, 'elsewhere' in/],
  ['text', /other\.json: not JSON/],
  ['whole', /other\.json: not the result of a shard/],
] as const)('a shard of another %s is refused in one line that says what differs', (what, message) => {
  const path = join(folder, 'other.json');
  const { stdout } = spawnSync('cat', [held[1]!], { encoding: 'utf8' });
  const result = JSON.parse(stdout) as ExploreResult & { shard: object };
  const others = {
    seed: { ...result, seed: 4 },
    scenario: { ...result, scenario: 'stale-hit' },
    code: { ...result, shard: { ...result.shard, code: 'elsewhere' } },
    whole: { ...result, shard: undefined },
  };
  writeFileSync(path, what === 'text' ? 'three-locks: no violation found\n' : JSON.stringify(others[what]));
  const { status, stderr } = dmarena('merge', held[0]!, path, held[2]!);
  expect(stderr).toMatch(message);
  expect(status).toBe(2);
});

test.each([
  [['--shard', '4/3'], /--shard '4\/3' is not a share of 4096 at most/],
  [['--shard', '0/3'], /--shard '0\/3' is not a share/],
  [['--shard', 'half'], /--shard 'half' is not a share/],
  [['--shard', '1/2', '--strategy', 'dpor'], /--shard is not for --strategy dpor: its schedules follow from one another/],
  [['--shard', '9/9', '--schedules', '8'], /--shard 9\/9 is empty: there are only 8 schedules/],
] as const)('explore refuses %j in one line', (words, message) => {
  const { status, stderr } = dmarena('explore', 'three-locks', ...words);
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^dmarena: [^\n]+\n$/);
  expect(status).toBe(2);
});
