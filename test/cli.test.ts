import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'dmarena-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const notJson = join(folder, 'broken.jsonl');
writeFileSync(notJson, 'this is not JSON\n');

function dmarena(...words: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ['dist/src/cli.js', ...words], { encoding: 'utf8', timeout: 60_000 });
}

test.each([
  [['explore', 'grop-replace'], /unknown scenario 'grop-replace'; did you mean 'group-replace'\?/],
  [['run', 'nonsense-zzz'], /unknown scenario 'nonsense-zzz'; known: /],
  [['explore', './nowhere.ts'], /no scenario file at '\.\/nowhere\.ts'/],
  [['explore', 'group-replace', '--variant', 'replace-v3'], /unknown variant 'replace-v3'; did you mean 'replace-v2'\?/],
  [['run', 'group-replace', '--variant', 'luck'], /unknown variant 'luck'; known: correct, /],
  [['explore', 'group-replace', '--strategy', 'randon'], /unknown strategy 'randon'; did you mean 'random'\?/],
  [['tour', '--strategy', 'luck'], /unknown strategy 'luck'/],
  [['run', 'group-replace', '--duration', 'NaN'], /--duration 'NaN' is not a duration/],
  [['run', 'group-replace', '--duration', '0s'], /--duration '0s' is not a duration above zero/],
  [['explore', 'group-replace', '--budget', '-1s'], /--budget '-1s' is not a duration/],
  [['explore', 'group-replace', '--schedules', '0'], /--schedules '0' is not a whole number/],
  [['explore', 'group-replace', '--schedules', 'many'], /--schedules 'many' is not a whole number/],
  [['explore', 'group-replace', '--seed', '-3'], /--seed '-3' is not a whole number/],
  [['run', 'group-replace', '--seed', '1e3'], /--seed '1e3' is not a whole number/],
  [['run', 'group-replace', '--seed', '4294967296'], /--seed '4294967296' is not a whole number from 1 to 4294967295/],
  [['replay', 'v1.x', '--times', 'NaN'], /--times 'NaN' is not a whole number/],
  [['replay'], /replay needs a token/],
  [['replay', '   '], /replay needs a token/],
  [['replay', 'not-a-token'], /token/],
  [['conform'], /missing required argument/],
  [['conform', 'nowhere.jsonl'], /no trace at 'nowhere\.jsonl'/],
  [['conform', notJson], /broken\.jsonl:1: not JSON/],
  [['explore'], /missing required argument 'scenario'/],
  [['explore', 'group-replace', '--sed', '1'], /unknown option '--sed' \(Did you mean --seed\?\)/],
  [['explore', 'group-replace', '--seed'], /argument missing/],
  [['explore', 'group-replace', 'and-more'], /too many arguments/],
  [['exlore', 'group-replace'], /unknown command 'exlore' \(Did you mean explore\?\)/],
] as const)('bad input %j is one line on stderr and exit 2', (words, message) => {
  for (const json of [[], ['--json']]) {
    const { status, stdout, stderr } = dmarena(words[0], ...json, ...words.slice(1));
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^dmarena: [^\n]+\n$/);
    expect(stdout).toBe('');
    expect(status).toBe(2);
  }
});

test('help is text on stdout and exit 0, with and without being asked for', () => {
  for (const words of [[], ['--help'], ['help', 'explore'], ['explore', '--help']]) {
    const { status, stdout, stderr } = dmarena(...words);
    expect(stdout).toMatch(/^Usage: dmarena/);
    expect([status, stderr]).toEqual([0, '']);
  }
});

test('list answers with one JSON object, text with the same names', () => {
  const { status, stdout } = dmarena('list', '--json');
  expect(status).toBe(0);
  expect(stdout.trimEnd()).not.toContain('\n');
  const listed = JSON.parse(stdout) as Record<string, { name: string; variants: object[] }[]>;
  const { scenarios, formats, strategies, invariants } = listed;
  expect(scenarios!.map((scenario) => scenario.name)).toContain('group-replace');
  expect(scenarios!.find(({ name }) => name === 'group-replace')!.variants).toContainEqual({
    name: 'replace-unlocked', mistake: expect.any(String), source: expect.any(String), caughtBy: 'G2', judgedBy: [],
  });
  for (const others of [formats, strategies, invariants]) expect(others!.length).toBeGreaterThan(0);
  expect(dmarena('list').stdout).toContain('group-replace');
});

test('a violation is exit 1, and --json carries it alone on stdout', () => {
  const words = ['group-replace', '--variant', 'replace-unlocked', '--schedules', '1000', '--json'];
  const { status, stdout, stderr } = dmarena('explore', ...words);
  const { violation, ...result } = JSON.parse(stdout) as { violation: { token: string } };
  expect(result).toMatchObject({ scenario: 'group-replace', variant: 'replace-unlocked', seed: 1, complete: false });
  expect(violation).toMatchObject({ invariant: 'G2', message: expect.any(String), switches: expect.any(Number) });
  expect(violation).toHaveProperty('steps');
  expect(stderr).toContain('violation G2');
  expect(status).toBe(1);
  const again = dmarena('replay', violation.token, '--times', '3', '--json');
  const replayed = { token: violation.token, times: 3, hashes: [expect.any(String)], violation: { invariant: 'G2' } };
  expect(JSON.parse(again.stdout)).toMatchObject(replayed);
  expect(again.status).toBe(1);
});

test('a model that answers as recorded is exit 0, and colour stays off on a pipe', () => {
  const { status, stdout } = dmarena('conform', 'test/traces');
  expect(stdout).toMatch(/^\d+ of \d+ recordings answered as the kernel did\n/);
  expect(stdout).not.toContain('\u001b');
  expect(status).toBe(0);
});
