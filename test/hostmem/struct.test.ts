import { readdirSync, readFileSync } from 'node:fs';
import { Host } from '#hostmem/host';
import { mutex } from '#hostmem/locks';
import { object, onNewLine, ref, resolveGuards, struct, u32, u64, words } from '#hostmem/struct';
import { expect, test } from 'vitest';
import { Recorder } from './recorder.ts';

const root = new URL('../../', import.meta.url);

test('every guard that a record declares names a lock that exists', async () => {
  const files = ['hostmem/', 'src/'].flatMap((folder) => sources(new URL(folder, root)).map((name) => folder + name));
  const declaring = files.filter((file) => /: [\w<>']+(\('\w+'\))?\.under\('/.test(readFileSync(new URL(file, root), 'utf8')));
  for (const file of declaring) await import(new URL(`dist/${file.replace(/\.ts$/, '.js')}`, root).href);
  expect(resolveGuards()).toBeGreaterThanOrEqual(declaring.length);
});

test('a guard that names no field is found without an access', () => {
  const Box = object('TestBox', { lock: mutex, weight: u32.under('lock') });
  expect(() => Box.weight.resolveGuard()).not.toThrow();
  const Broken = object('TestBroken', { weight: u32.under('lock'), other: u32, height: u32.under('other.lock') });
  expect(() => Broken.weight.resolveGuard()).toThrow(/no field 'lock'/);
  expect(() => Broken.height.resolveGuard()).toThrow(/no ref/);
});

test('a guarded word is silent under its own lock or that of the record it names, and reported without', () => {
  const Parent = object('TestParent', { lock: mutex });
  const Child = object('TestChild', { parent: ref('TestParent'), age: u32.under('parent.lock') });
  const kernel = Host.create(65_536, 65_536).kernel;
  const [mine, other] = [Parent.create(kernel), Parent.create(kernel)];
  const child = Child.create(kernel);
  Child.parent.poke(kernel, child, mine);
  const recorder = new Recorder();
  kernel.control = recorder;
  Parent.lock.acquire(kernel, mine);
  Child.age.write(kernel, child, 5);
  Parent.lock.release(kernel, mine);
  expect([recorder.points.length, recorder.guardedWrites, recorder.unguardedLabels]).toEqual([2, ['TestChild.age'], []]);
  Parent.lock.acquire(kernel, other);
  expect(Child.age.read(kernel, child)).toBe(5);
  expect(recorder.points.slice(2)).toEqual(['LOCK TestParent.lock', 'READ TestChild.age']);
  expect(recorder.unguardedLabels).toEqual(['TestChild.age']);
});

test('fields stand side by side, 64-bit ones at multiples of 8, and an index outside an array is refused', () => {
  const Mixed = struct('TestMixed', { a: u32, b: u64, c: words(3), d: u32 });
  expect([Mixed.a.offsetBytes, Mixed.b.offsetBytes, Mixed.c.offsetBytes, Mixed.d.offsetBytes, Mixed.sizeBytes]).toEqual([0, 8, 16, 28, 32]);
  const kernel = Host.create(65_536, 65_536).kernel;
  expect(() => Mixed.c.get(kernel, 4096, 3)).toThrow(/outside 0\.\.2/);
  expect(() => struct('TestMixed', {})).toThrow(/exists already/);
});

/** The TypeScript sources below a folder, as paths within it. */
function sources(folder: URL): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
}

test('what begins a line shares none with the header, nor with what is before it', () => {
  const Shared = object('TestShared', { kind: u32, count: onNewLine(u32), beside: u64, last: onNewLine(words(20)), behind: u32 });
  const kernel = Host.create(65_536, 65_536).kernel;
  const shared = Shared.create(kernel);
  const header = Shared.addressIfLive(kernel, shared);
  expect(header % 64).toBe(0);
  const offsets = [Shared.kind, Shared.count, Shared.beside, Shared.last, Shared.behind].map((field) => field.address(kernel, shared) - header);
  expect(offsets).toEqual([8, 64, 72, 128, 208]);
});
