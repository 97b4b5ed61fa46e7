/** The README's "Add your own", followed by the letter: its files are written down outside the repository, its commands run. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'dmarena-readme-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const readme = readFileSync('README.md', 'utf8');
const section = readme.slice(readme.indexOf('\n## Add your own'), readme.indexOf('\n### In a clone'));
const files = [...section.matchAll(/`([\w-]+\.(?:mjs|ts))`:[^`]*(?:`[^`\n]*`[^`]*)*?```(?:js|ts)\n([\s\S]*?)```/g)].map((match) => [match[1]!, match[2]!] as const);
for (const [name, text] of files) writeFileSync(join(folder, name), text);
const commands = [...section.matchAll(/^dmarena ([^#\n]+)/gm)].map((match) => match[1]!.trim());

const cli = resolve('dist/src/cli.js');
function dmarena(...words: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [cli, ...words], { cwd: folder, encoding: 'utf8', timeout: 100_000 });
}

test('it has a file of each kind, and commands for all of them', () => {
  expect(files.map(([name]) => name)).toEqual(['two-moves.mjs', 'late-record.mjs', 'no-fault.mjs', 'amd-v1.ts']);
  for (const [name] of files) expect(commands.join('\n')).toContain(`./${name}`);
});

/** What the README says, or lets expect, of each command. */
const expected: readonly (readonly [command: string, status: number, answer: object])[] = [
  ['explore ./two-moves.mjs', 0, { scenario: 'two-moves', variant: 'correct', violation: null }],
  ['explore ./two-moves.mjs --variant replace-unlocked', 1, { violation: { invariant: 'G2' } }],
  ['run ./two-moves.mjs --duration 5s', 0, { violation: null, threads: [{ actor: 'move A' }, { actor: 'move B' }, { actor: 'A', role: 'device' }] }],
  ['explore group-replace --variant ./late-record.mjs', 1, { variant: 'late-record', violation: { invariant: 'G2' } }],
  ['explore ./two-moves.mjs --invariant ./no-fault.mjs', 1, { violation: { invariant: 'NOFAULT' } }],
  ['try-format ./amd-v1.ts', 0, { formats: [{ format: 'amd-v1-3', levels: 3, inputBits: 39, difference: null }] }],
];

test('every command of the section is one whose answer is known', () => expect(commands).toEqual(expected.map(([command]) => command)));

test.each(expected)('dmarena %s ends with %i', (command, status, answer) => {
  const ran = dmarena(...command.split(' '), '--json');
  expect(JSON.parse(ran.stdout)).toMatchObject(answer);
  expect(ran.status).toBe(status);
});

test('the command that a story ends with replays it, and a token alone says which files it needs', () => {
  const { stdout } = dmarena('explore', './two-moves.mjs', '--variant', './late-record.mjs', '--invariant', './no-fault.mjs');
  const words = /^replay {2}dmarena (.*)$/m.exec(stdout)![1]!.split(' ');
  expect(words.slice(2)).toEqual(['--scenario', './two-moves.mjs', '--variant', './late-record.mjs', '--invariant', './no-fault.mjs']);
  const again = dmarena(...words, '--times', '20', '--json');
  expect(JSON.parse(again.stdout)).toMatchObject({ times: 20, hashes: [expect.any(String)], violation: { invariant: expect.any(String) } });
  expect([again.status, again.stderr]).not.toContain('not as it was');
  for (const [given, missing] of [[2, /scenario file 'two-moves'; give it with --scenario/], [4, /variant file 'late-record'/], [6, /invariant file 'no-fault'/]] as const) {
    const { status, stderr } = dmarena(...words.slice(0, given));
    expect(stderr).toMatch(missing);
    expect(stderr).toMatch(/^dmarena: [^\n]+\n$/);
    expect(status).toBe(2);
  }
});

test('a token says so when its file has changed, and does not mind when it is called otherwise', () => {
  const { violation } = JSON.parse(dmarena('explore', './two-moves.mjs', '--variant', 'replace-unlocked', '--json').stdout) as { violation: { token: string } };
  const text = readFileSync(join(folder, 'two-moves.mjs'), 'utf8');
  writeFileSync(join(folder, 'renamed.mjs'), text);
  writeFileSync(join(folder, 'changed.mjs'), text.replaceAll('0x1111', '0x1112'));
  expect(dmarena('replay', violation.token, '--scenario', './renamed.mjs').stdout).not.toContain('not as it was');
  expect(dmarena('replay', violation.token, '--scenario', './changed.mjs').stdout).toContain('not as it was when the token was made: ./changed.mjs');
});

test('the types that the package declares accept the files, and say what is wrong with others', () => {
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(resolve('.'), join(folder, 'node_modules', 'dmarena'), 'junction');
  const kinds = { 'two-moves.mjs': 'OutsideScenario', 'late-record.mjs': 'OutsideVariant', 'no-fault.mjs': 'OutsideInvariant' };
  const check = (name: string): string => {
    const options = ['--noEmit', '--strict', '--allowJs', '--checkJs', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023'];
    return spawnSync(process.execPath, [tsc, ...options, name], { cwd: folder, encoding: 'utf8' }).stdout;
  };
  for (const [name, type] of Object.entries(kinds)) {
    const text = `/** @type {import('dmarena').${type}} */\n${readFileSync(join(folder, name), 'utf8')}`;
    writeFileSync(join(folder, `typed-${name}`), text);
    expect(check(`typed-${name}`)).toBe('');
  }
  writeFileSync(join(folder, 'wrong.mjs'), readFileSync(join(folder, 'typed-two-moves.mjs'), 'utf8').replace('thread.attach(fdB', 'thread.atach(fdB'));
  expect(check('wrong.mjs')).toMatch(/'atach' does not exist on type 'Vm'/);
  expect(check('amd-v1.ts')).toBe('');
});
