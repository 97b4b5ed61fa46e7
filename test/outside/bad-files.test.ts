/** Whatever is wrong with a file from outside is one line that says where and what, and exit 2; nothing is written. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findFormats } from '#src/catalogue';
import { choose } from '#src/chosen';
import { afterAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'dmarena-outside-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
mkdirSync(join(folder, 'folder.mjs'));

const cli = resolve('dist/src/cli.js');
let count = 0;

function write(text: string, extension = 'mjs'): string {
  const path = join(folder, `file${++count}.${extension}`);
  writeFileSync(path, text);
  return path;
}

type Given = (path: string) => Promise<unknown>;
const asScenario: Given = (scenario) => choose({ scenario, variant: 'correct' });
const asVariant: Given = (variant) => choose({ scenario: 'group-replace', variant });
const asInvariant: Given = (path) => choose({ scenario: 'group-replace', variant: 'correct', invariants: [path] });
const asFormat: Given = (path) => findFormats(path);

/** Gives the file to the program, expects one line that begins with its path. */
async function refused(given: Given, text: string, line: RegExp, extension = 'mjs'): Promise<void> {
  const path = write(text, extension);
  const error = await given(path).then(() => null, (thrown: unknown) => thrown as Error);
  expect(error).toMatchObject({ name: 'InputError', message: expect.stringMatching(line) });
  expect(error!.message.startsWith(path)).toBe(true);
  expect(error!.message).not.toMatch(/\n|data:text/);
}

/** A scenario that is fine but for what is changed. */
const story = (changed: string, actors = `actors: ({ vm }) => ({ one: vm('vmm', () => {}) })`): string =>
  `export default ({ scenario, vm, device, viommu }) => scenario({
    title: 'a title', holds: ['G1'],
    world(w) { w.group('A', 'B'); w.process('vmm'); w.guest('guest', 8); return {}; },
    ${actors},
    ${changed}
  });`;

test.each([
  ['a syntax error', 'export default ({ scenario }) => {\n  let x = = 1;\n};', /file\d+\.mjs:2:11: Unexpected "="/],
  ['an import', `import { readFileSync } from 'node:fs';\nexport default () => readFileSync('x');`, /file\d+\.mjs:1:30: it imports 'node:fs'; a file from outside imports nothing/],
  ['an import of a package', `import x from 'dmarena';\nexport default () => x;`, /:1:15: it imports 'dmarena'/],
  ['an import on demand', `export default () => import('./other.mjs');`, /:1:29: it imports '.\/other.mjs'/],
  ['a require', `export default () => require('fs');`, /:1:30: it imports 'fs'/],
  ['no default export', 'export const x = 1;', /it has no default export; write export default \(\{ scenario \}\) => scenario\(/],
  ['nothing in it', '', /it has no default export/],
  ['a default export that is no function', 'export default { title: 1 };', /its default export is an object; it has to be a function/],
  ['a function that throws', 'export default () => { throw new Error("not today"); };', /it throws when it is called: Error: not today/],
  ['a text that throws', 'throw new Error("too early");\nexport default () => 1;', /it throws when it is loaded: Error: too early/],
  ['a word that there is not', 'export default ({ scenari }) => scenari({});', /it throws when it is called: TypeError: scenari is not a function/],
  ['a function that returns nothing', 'export default () => {};', /undefined is not a scenario; its function has to return a scenario/],
  ['an async function', 'export default async ({ scenario }) => scenario({});', /a promise is not a scenario/],
  ['no title', `export default ({ scenario }) => scenario({ holds: [] });`, /a scenario needs 'title': a text/],
  ['an unknown member', story(`hold: ['G1'],`), /in a scenario: unknown member 'hold'; did you mean 'holds'\?/],
  ['holds that is no list', story(`holds: 'G1',`), /'holds' of a scenario is "G1"; it has to be a list of texts/],
  ['an unknown invariant', story(`holds: ['G1', 'G22'],`), /unknown invariant 'G22'; did you mean 'G2'\? .*--invariant <path>/],
  ['an unknown variant', story(`variants: ['replace-v3'],`), /unknown variant 'replace-v3'; did you mean 'replace-v2'\?/],
  ['no actors', story('', 'actors: {}'), /the scenario has no actors/],
  ['actors left out', story('', 'seed: null'), /the scenario has no actors/],
  ['an unknown role', story('', `actors: { nic: { role: 'nic', subject: 'A', body() {} } }`), /actor 'nic': unknown role 'nic'; known: vm, device, viommu/],
  ['an actor that is none', story('', 'actors: { one: () => 1 }'), /a function is not actor 'one'/],
  ['an async body', story('', `actors: { one: vm('vmm', async () => {}) }`), /'body' of actor 'one' is an async function; it has to be a plain function/],
  ['an unknown device', story('', `actors: { one: device('C', () => {}) }`), /actor 'one': unknown device 'C'; .*A, B/],
  ['an unknown process', story('', `actors: { one: vm('vm', () => {}) }`), /actor 'one': unknown process 'vm'; did you mean 'vmm'\?/],
  ['a device in the place of a process', story('', `actors: { one: vm('A', () => {}) }`), /unknown process 'A'/],
  ['an unknown guest', story('', `actors: { one: viommu('vmm', () => {}) }`), /unknown guest 'vmm'; .*guest/],
  ['a world that throws', story(`world(w) { w.process('vmm').ioas(77); },`), /its world cannot be built: EBADF/],
  ['a world that hands out functions', story('world(w) { w.process("vmm"); return { no() {} }; },'), /world\(\) returns a function as 'no', which cannot be handed to other threads/],
  ['actors that throw', story('', `actors: () => { throw new Error('no cast'); }`), /its actors cannot be made: Error: no cast/],
])('a scenario with %s', (_what, text, line) => refused(asScenario, text, line));

test('a syntax error in TypeScript has its place', () =>
  refused(asScenario, 'interface X { a: number }\nexport default (x: X): number => x.a +;', /file\d+\.ts:2:39: Unexpected ";"/, 'ts'));

const variant = (members: string): string => `export default ({ variant }) => variant({ mistake: 'm', source: 's', caughtBy: 'G2', ${members} });`;

test.each([
  ['a table that there is not', variant('atach: { replace() {} }'), /in a variant: unknown member 'atach'; did you mean 'attach'\?/],
  ['a function that there is not', variant('attach: { replce() {} }'), /in table 'attach': unknown member 'replce'; did you mean 'replace'\?/],
  ['something that is no function', variant('attach: { replace: 1 }'), /'replace' of table 'attach' is 1; it has to be a plain function/],
  ['no change', variant(''), /the variant changes nothing; give it a function of objects, /],
  ['no source', `export default ({ variant }) => variant({ mistake: null, caughtBy: null, attach: {} });`, /a variant needs 'source'/],
  ['an invariant that there is not', variant(`attach: { replace() {} }, caughtBy: 'G22'`), /caughtBy: unknown invariant 'G22'; did you mean 'G2'\?/],
  ['a syntax error', 'export default (', /:1:\d+: Unexpected end of file/],
])('a variant with %s', (_what, text, line) => refused(asVariant, text, line));

const invariant = (members: string): string => `export default ({ invariant }) => invariant({ ${members} });`;

test.each([
  ['no id', invariant(`claim: 'c', events: [], start: () => null, step: () => null`), /an invariant needs 'id'/],
  ['no claim', invariant(`id: 'MINE', events: [], start: () => null, step: () => null`), /an invariant needs 'claim': a text/],
  ['no step', invariant(`id: 'MINE', claim: 'c', events: [], start: () => null`), /an invariant needs 'step': a plain function/],
  ['events that are names', invariant(`id: 'MINE', claim: 'c', events: ['dma'], start: () => null, step: () => null`), /'events' of an invariant is a list that holds "dma"; it has to be a list of kinds/],
  ['an id that is taken', invariant(`id: 'G1', claim: 'c', events: [], start: () => null, step: () => null`), /there is an invariant 'G1' already/],
  ['an id of the scheduler', invariant(`id: 'DEADLOCK', claim: 'c', events: [], start: () => null, step: () => null`), /there is an invariant 'DEADLOCK' already/],
])('an invariant with %s', (_what, text, line) => refused(asInvariant, text, line));

const format = (members: string): string => `export default ({ format, label }) => format({
  name: 'mine', levels: 3, inputBits: 39, labels: [0, 1, 2, 3], inspect: () => 0, frameOf: () => 0, leafHigh: () => 0, leafLow: () => 1,
  tableHigh: () => 0, tableLow: () => 1, signExtended: false, largestLeaf: 1, accessedBit: 0, dirtyBit: 0, ${members} });`;

test.each([
  ['a function left out', format('inspect: undefined'), /a format needs 'inspect'/],
  ['more bits than levels', format('inputBits: 48'), /3 levels of 512 entries, which are 31 to 39 bits of IOVA, not 48/],
  ['labels left out', format('labels: [0, 1]'), /has 2 labels; 3 levels need 4/],
  ['a level too many', format('levels: 9'), /'levels' of a format is 9; it has to be a whole number from 3 to 6/],
])('a format with %s', (_what, text, line) => refused(asFormat, text, line));

writeFileSync(join(folder, 'notes.txt'), 'x');
test.each([
  [['explore', './nowhere.mjs'], /no scenario file at '\.\/nowhere\.mjs'/],
  [['explore', './folder.mjs'], /'\.\/folder\.mjs' is a folder; name the scenario file in it/],
  [['explore', './notes.txt'], /'\.\/notes\.txt' is no scenario file: its name has to end in \.js, \.mjs or \.ts/],
  [['run', 'group-replace', '--variant', './nowhere.mjs'], /no variant file at/],
  [['explore', 'group-replace', '--invariant', 'NOFAULT'], /no invariant file at 'NOFAULT'/],
  [['try-format', 'vtd-second-stag'], /unknown format 'vtd-second-stag'; did you mean 'vtd-second-stage'\?/],
  [['explore', write('export default ({ scenario }) => {\n  let x = = 1;\n};')], /\.mjs:2:11: Unexpected "="/],
  [['run', write(`import x from 'dmarena';\nexport default () => x;`)], /:1:15: it imports 'dmarena'/],
  [['explore', write(story('', `actors: { one: device('C', () => {}) }`)), '--out', 'report'], /actor 'one': unknown device 'C'/],
  [['run', write(story(`holds: ['Z9'],`))], /unknown invariant 'Z9'/],
  [['explore', write(story(`world() { throw new Error('two\\nlines'); },`)), '--out', 'report'], /its world cannot be built: Error: two lines/],
  [['try-format', write('export default 1')], /its default export is a number/],
] as const)('dmarena %j is one line, exit 2, and nothing written', (words, line) => {
  const before = readdirSync(folder);
  for (const json of [[], ['--json']]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...words, ...json], { cwd: folder, encoding: 'utf8', timeout: 60_000 });
    expect(stderr).toMatch(line);
    expect(stderr).toMatch(/^dmarena: [^\n]+\n$/);
    expect([status, stdout]).toEqual([2, '']);
  }
  expect(readdirSync(folder)).toEqual(before);
});

test('types are stripped, enums too, and .js is as good as .mjs', async () => {
  const text = `enum Tag { ONE = 1 }\ntype Fd = number;\n${story('', `actors: { one: vm('vmm', (thread: unknown, stage: { fd: Fd }) => Tag.ONE) }`)}`;
  const { scenario } = await choose({ scenario: write(text, 'ts'), variant: 'replace-unlocked' });
  expect(scenario.name).toMatch(/^file\d+$/);
  const plain = await choose({ scenario: write(story('')), variant: 'correct' });
  const other = await choose({ scenario: write(story(''), 'js'), variant: 'correct' });
  expect(other.scenario.file!.hash).toBe(plain.scenario.file!.hash);
});

test('a body that writes more events in one round than a ring holds is told so in a free run: nothing is judged by the half of a history', () => {
  // A judge that knew only the first half would see an invariant break that has broken in none of it.
  const path = write(`export default ({ scenario, device }) => scenario({
    title: 'a long body', holds: ['G1'],
    world(w) { w.group('A', 'B'); w.process('vmm'); return {}; },
    actors: { A: device('A', (dev) => { for (let i = 0; i < 200000; i++) dev.read(0x1000, 64); }) },
  });`);
  const { status, stdout } = spawnSync(process.execPath, [cli, 'run', path, '--duration', '20s', '--json'], { encoding: 'utf8', timeout: 60_000 });
  expect(JSON.parse(stdout)).toMatchObject({ violation: { invariant: 'THROWN', message: expect.stringContaining('more events than its ring holds') } });
  expect(status).toBe(1);
});
