/**
 * The layer table of docs/ARCHITECTURE.md, held against the real imports, bottom first.
 *
 * Lint says the same about one line at a time; this test resolves every import of every source file, types included, so
 * that a room cannot be reached by a detour, and it sees cycles. It reads the sources' text and runs none of them.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { expect, test } from 'vitest';

interface Source {
  /** From the root of the repository, with `/`. */
  readonly path: string;
  readonly text: string;
}

interface Room {
  readonly name: string;
  readonly holds: RegExp;
  /** Rooms it may import besides itself. */
  readonly imports: readonly string[];
  /** Packages and `node:` modules it may import. */
  readonly packages: RegExp;
  /** Reads no clock, no randomness, no environment, and prints nothing. */
  readonly pure: boolean;
}

const none = /^$/;
const walking = /^node:(fs|path|url)$/;
const model = ['hostmem', 'errno', 'hardware', 'drivers', 'kernel'];

/** Bottom first. A file belongs to the first room that holds it. */
const rooms: readonly Room[] = [
  { name: 'hostmem', holds: /^hostmem\//, imports: [], packages: none, pure: true },
  { name: 'load-module', holds: /^src\/load-module\.ts$/, imports: [], packages: none, pure: true },
  { name: 'errno', holds: /^src\/kernel\/errno\.ts$/, imports: [], packages: none, pure: true },
  { name: 'hardware', holds: /^src\/hardware\//, imports: ['hostmem'], packages: none, pure: true },
  { name: 'drivers', holds: /^src\/drivers\//, imports: ['hostmem', 'errno', 'hardware'], packages: none, pure: true },
  { name: 'kernel', holds: /^src\/kernel\//, imports: ['hostmem', 'errno', 'drivers'], packages: none, pure: true },
  // Strategies and invariants are found by walking their folders.
  { name: 'schedule', holds: /^src\/schedule\//, imports: ['hostmem', 'load-module'], packages: walking, pure: true },
  { name: 'check', holds: /^src\/check\//, imports: [...model, 'load-module'], packages: walking, pure: true },
  { name: 'actors', holds: /^src\/actors\//, imports: [...model, 'schedule'], packages: none, pure: true },
  // Builds what a scenario describes, before any actor runs.
  { name: 'world', holds: /^src\/(world|built-\w+)\.ts$/, imports: model, packages: none, pure: true },
  {
    name: 'scenario',
    holds: /^src\/(scenario\.ts$|scenarios\/)/,
    imports: [...model, 'schedule', 'check', 'actors', 'world'],
    packages: /^zod$/,
    pure: true,
  },
  // What passes between a worker and who spawned it.
  {
    name: 'task',
    holds: /^src\/(task|kept-events)\.ts$/,
    imports: ['hostmem', 'schedule', 'scenario'],
    packages: none,
    pure: true,
  },
  {
    name: 'workers',
    holds: /^workers\//,
    imports: [...model, 'load-module', 'schedule', 'check', 'actors', 'scenario', 'task'],
    packages: /^node:worker_threads$/,
    pure: false,
  },
  {
    name: 'composition',
    holds: /^src\/([^/]+\.ts$|(report|conform|commands|outside|fail-nth)\/)/,
    imports: [...model, 'load-module', 'schedule', 'check', 'actors', 'world', 'scenario', 'task'],
    packages: /./,
    pure: false,
  },
];

/** Narrower than the table: [from, to, what is allowed of it, why]. */
const narrow: readonly (readonly [string, string, RegExp, string])[] = [
  ['drivers', 'hardware', /^src\/hardware\/(?!.*(iotlb|cache))/, 'a driver never reads a cache'],
  ['check', 'kernel', /^src\/kernel\/(?!operations|syscalls|variants?[./])/, 'a check reads events and records; it does nothing'],
];

const impure = new RegExp(
  [
    String.raw`\bDate\s*\(|\bDate\.|\bMath\.random\b|\bperformance\.|\bconsole\.`,
    String.raw`\bset(Timeout|Interval|Immediate)\s*\(|\bqueueMicrotask\b`,
    String.raw`\bprocess\.(env|hrtime|nextTick|stdout|stderr|exit|argv|uptime|memoryUsage)\b`,
  ].join('|'),
);

/** Of a pure room, what runs on the main thread: it watches by the clock that a schedule goes on, and decides nothing. */
const watchdog = /^src\/schedule\/commander\.ts$/;

/** The text without its comments; what stands in strings stays. */
function code(text: string): string {
  return text.replace(/'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (part) =>
    part.startsWith('/') ? ' ' : part,
  );
}

/** The code without what stands in its strings. */
function words(text: string): string {
  return code(text).replace(/'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/g, "''");
}

/** Every specifier that is imported, exported from, or imported on demand. */
function importsOf(text: string): string[] {
  const found = code(text).matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g);
  return [...found].map((match) => match[1]!);
}

/** The path a specifier leads to, or null for a package or a `node:` module. */
function target(from: string, specifier: string): string | null {
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier);
  return specifier.startsWith('#') ? `${specifier.slice(1)}.ts` : null;
}

const roomOf = (path: string): Room | undefined => rooms.find((room) => room.holds.test(path));

function judgeImport(source: Source, room: Room, specifier: string): string | null {
  const path = target(source.path, specifier);
  const said = `${source.path} imports ${path ?? specifier}`;
  if (path === null) return room.packages.test(specifier) ? null : `${said}: ${room.name} may not`;
  const other = roomOf(path);
  if (other === undefined) return `${said}, which is in no room`;
  if (other !== room && !room.imports.includes(other.name)) return `${said}: ${room.name} may not import ${other.name}`;
  const rule = narrow.find(([from, to]) => from === room.name && to === other.name);
  return rule === undefined || rule[2].test(path) ? null : `${said}: ${rule[3]}`;
}

/** Every import that the table forbids, and every file that it does not place. */
function forbiddenImports(sources: readonly Source[]): string[] {
  const found: string[] = [];
  for (const source of sources) {
    const room = roomOf(source.path);
    if (room === undefined) {
      found.push(`${source.path} is in no room`);
      continue;
    }
    for (const specifier of importsOf(source.text)) {
      const verdict = judgeImport(source, room, specifier);
      if (verdict !== null) found.push(verdict);
    }
  }
  return found;
}

/** Which room imports which, of other rooms. */
function roomGraph(sources: readonly Source[]): Map<string, Set<string>> {
  const graph = new Map<string, Set<string>>();
  for (const { path, text } of sources) {
    const from = roomOf(path)?.name;
    if (from === undefined) continue;
    const edges = graph.get(from) ?? new Set<string>();
    graph.set(from, edges);
    for (const specifier of importsOf(text)) {
      const to = roomOf(target(path, specifier) ?? '')?.name;
      if (to !== undefined && to !== from) edges.add(to);
    }
  }
  return graph;
}

/** A cycle as a list of rooms that ends where it begins, or null. */
function cycle(graph: ReadonlyMap<string, ReadonlySet<string>>): string[] | null {
  const finished = new Set<string>();
  const visit = (room: string, path: readonly string[]): string[] | null => {
    if (path.includes(room)) return [...path.slice(path.indexOf(room)), room];
    if (finished.has(room)) return null;
    for (const next of graph.get(room) ?? []) {
      const found = visit(next, [...path, room]);
      if (found !== null) return found;
    }
    finished.add(room);
    return null;
  };
  for (const room of graph.keys()) {
    const found = visit(room, []);
    if (found !== null) return found;
  }
  return null;
}

function impureFiles(sources: readonly Source[]): string[] {
  return sources.flatMap(({ path, text }) => {
    const use = roomOf(path)?.pure === true && !watchdog.test(path) ? impure.exec(words(text)) : null;
    return use === null ? [] : [`${path} uses ${use[0]}`];
  });
}

const namesAtomics = (sources: readonly Source[]): string[] =>
  sources.filter(({ text }) => /\bAtomics\b/.test(words(text))).map(({ path }) => path);

const withoutOpening = (sources: readonly Source[]): string[] =>
  sources.filter(({ text }) => !/^(#!.*\n)?\s*(\/\*|\/\/)/.test(text)).map(({ path }) => path);

function readSources(folders: readonly string[]): Source[] {
  return folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => posix.join(folder, name.replaceAll('\\', '/')))
      .map((path) => ({ path, text: readFileSync(path, 'utf8') })),
  );
}

const sources = readSources(['hostmem', 'src', 'workers']);
const one = (path: string, text: string): Source[] => [{ path, text: `/** A file. */\n${text}\n` }];

test('every import is one that the layer table allows', () => {
  expect(sources.length).toBeGreaterThan(10);
  expect(forbiddenImports(sources)).toEqual([]);
});

test('no room imports itself by way of others', () => {
  expect(cycle(roomGraph(sources))).toBeNull();
});

test('only hostmem/atomics.ts names Atomics', () => {
  expect(namesAtomics(sources)).toEqual(['hostmem/atomics.ts']);
});

test('nothing that a schedule runs reads a clock, randomness or the environment, or prints', () => {
  expect(impureFiles(sources)).toEqual([]);
});

test('every file opens with what it is', () => {
  expect(withoutOpening([...sources, ...readSources(['bench'])])).toEqual([]);
});

test.each([
  ['src/hardware/iotlb.ts', `import type { Group } from '../kernel/group.ts';`],
  ['src/hardware/iotlb.ts', `export * from '../../src/drivers/vtd.ts';`],
  ['src/drivers/vtd.ts', `import { lookUp } from '../hardware/iotlb.ts';`],
  ['src/drivers/vtd.ts', `import { Group } from '../kernel/group.ts';`],
  ['src/kernel/group.ts', `import { lookUp } from '../hardware/iotlb.ts';`],
  ['src/kernel/group.ts', `import { Baton } from '#src/schedule/baton';`],
  ['src/schedule/baton.ts', `import { fail } from '../kernel/errno.ts';`],
  ['src/check/history.ts', `import { operations } from '../kernel/operations.ts';`],
  ['src/check/history.ts', `import { run } from '../run.ts';`],
  ['src/scenarios/one.ts', `import { Worker } from 'node:worker_threads';`],
  ['src/explore.ts', `import { actor } from '../workers/vm.ts';`],
  ['src/commands/run.ts', `const { actor } = await import('#workers/vm');`],
  ['workers/vm.ts', `import { run } from '../src/run.ts';`],
  ['workers/vm.ts', `import { readFileSync } from 'node:fs';`],
  ['hostmem/locks.ts', `import { readFileSync } from 'node:fs';`],
  ['hostmem/locks.ts', `import {\n  fail,\n} from '../src/kernel/errno.ts';`],
  ['hostmem/locks.ts', `import { Host } from '../test/host.ts';`],
  ['src/utils/all.ts', ''],
])('the table refuses in %s: %s', (path, text) => {
  expect(forbiddenImports(one(path, text))).toHaveLength(1);
});

test.each([
  ['src/drivers/vtd.ts', `import { fail } from '../kernel/errno.ts';\nimport { Registers } from '../hardware/registers.ts';`],
  ['src/check/invariants/g2.ts', `import { groupMoved } from '../../kernel/events.ts';`],
  ['workers/vm.ts', `import { Host } from '../hostmem/host.ts';\nimport { parentPort } from 'node:worker_threads';`],
  ['src/kernel/group.ts', `// import { x } from '../hardware/iotlb.ts';`],
])('the table allows in %s: %s', (path, text) => {
  expect(forbiddenImports(one(path, text))).toEqual([]);
});

test('a cycle between rooms is seen', () => {
  const graph = roomGraph([
    ...one('src/kernel/group.ts', `import '../drivers/vtd.ts';`),
    ...one('src/drivers/vtd.ts', `import '../hardware/registers.ts';`),
    ...one('src/hardware/registers.ts', `import '../kernel/group.ts';`),
  ]);
  expect(cycle(graph)).toEqual(['kernel', 'drivers', 'hardware', 'kernel']);
});

test('a clock, a print, a second Atomics and a file without an opening are seen, comments and strings are not', () => {
  expect(impureFiles(one('src/kernel/a.ts', 'const now = Date.now();'))).toEqual(['src/kernel/a.ts uses Date.']);
  expect(impureFiles(one('src/scenarios/a.ts', 'console.log(1);'))).toHaveLength(1);
  expect(impureFiles(one('src/kernel/a.ts', `const a = 'Date.now()'; // Math.random()\nprocess.mm = 1;`))).toEqual([]);
  expect(impureFiles(one('src/run.ts', 'const now = Date.now();'))).toEqual([]);
  expect(namesAtomics(one('src/schedule/a.ts', 'Atomics.load(words, 0);'))).toEqual(['src/schedule/a.ts']);
  expect(namesAtomics(one('src/schedule/a.ts', '/* Atomics */'))).toEqual([]);
  expect(withoutOpening([{ path: 'a.ts', text: 'export const a = 1;\n' }])).toEqual(['a.ts']);
});
