/**
 * A file from outside the repository, given by its path: types are stripped, imports refused, the function called.
 *
 * What workers load is a `data:` URL of the transformed text, so that nothing is written to disk and every thread has the
 * same text, whatever becomes of the file meanwhile. Whatever is wrong is one `InputError` that begins with the path.
 */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { basename, extname } from 'node:path';
import type { Loader, Message, Plugin } from 'esbuild';
import { InputError } from '../input-error.ts';
import { violationOf } from '../schedule/violation.ts';

export type FileKind = 'scenario' | 'variant' | 'invariant' | 'format';

export interface OutsideFile {
  /** As the user gave it. */
  readonly path: string;
  /** The file's name without its extension, as far as a token can carry it. */
  readonly name: string;
  /** Six characters that stand for the transformed text: the same on every machine, whatever the file is called. */
  readonly hash: string;
  /** Whose default export is what the file's function returned. */
  readonly url: string;
}

const loaders: Readonly<Record<string, Loader>> = { '.js': 'js', '.mjs': 'js', '.ts': 'ts' };
const wordsUrl = new URL('./words.js', import.meta.url).href;

/** Whether a name on the command line is a path to a file. */
export const isPath = (name: string): boolean => /[/\\]|\.(ts|js|mjs)$/.test(name);

/** Reads, transforms and calls the file. Throws `InputError`. */
export async function loadOutside(kind: FileKind, path: string): Promise<{ readonly file: OutsideFile; readonly value: unknown }> {
  const text = await transform(kind, path, read(kind, path));
  const name = basename(path, extname(path)).replaceAll(/[^A-Za-z0-9_]+/g, '-').replaceAll(/^-|-$/g, '') || kind;
  const hash = createHash('sha256').update(text).digest('base64url').replaceAll(/[-_]/g, 'x').slice(0, 6);
  const source = dataUrl(`${text}\n//# sourceURL=${basename(path)} (transformed)`);
  const { default: make } = await imported(path, 'loaded', source);
  if (typeof make !== 'function') {
    throw new InputError(`${path}: its default export is ${tell(make)}; it has to be a function, ${example(kind)}`);
  }
  const url = dataUrl(`import make from '${source}';\nimport { words } from ${JSON.stringify(wordsUrl)};\nexport default make(words);\n`);
  const { default: value } = await imported(path, 'called', url);
  return { file: { path, name, hash, url }, value };
}

/** Throws `InputError` for a path that leads to no file of a known kind. */
function read(kind: FileKind, path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new InputError(`no ${kind} file at '${path}'; check the path, or see 'dmarena list'`);
  if (found.isDirectory()) throw new InputError(`'${path}' is a folder; name the ${kind} file in it`);
  if (loaders[extname(path)] === undefined) throw new InputError(`'${path}' is no ${kind} file: its name has to end in .js, .mjs or .ts`);
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new InputError(`'${path}' cannot be read: ${(error as Error).message}`);
  }
}

/** Plain JavaScript for Node 20, without types. */
async function transform(kind: FileKind, path: string, contents: string): Promise<string> {
  const { build } = await import('esbuild');
  try {
    const { outputFiles, metafile } = await build({
      stdin: { contents, sourcefile: kind, loader: loaders[extname(path)]! },
      bundle: true,
      write: false,
      metafile: true,
      format: 'esm',
      platform: 'neutral',
      target: 'node20',
      charset: 'utf8',
      logLevel: 'silent',
      tsconfigRaw: '{}',
      plugins: [refuseImports],
    });
    const exported = Object.values(metafile.outputs).flatMap((output) => output.exports);
    if (!exported.includes('default')) throw new InputError(`${path}: it has no default export; write export default ${example(kind)}`);
    return outputFiles[0]!.text;
  } catch (error) {
    const first = (error as { errors?: readonly Message[] }).errors?.[0];
    if (first === undefined) throw error;
    const at = first.location === null ? '' : `:${first.location.line}:${first.location.column + 1}`;
    throw new InputError(`${path}${at}: ${first.text}`);
  }
}

const refuseImports: Plugin = {
  name: 'refuse imports',
  setup(build) {
    build.onResolve({ filter: /./ }, ({ path, kind }) =>
      kind === 'entry-point'
        ? null
        : { errors: [{ text: `it imports '${path}'; a file from outside imports nothing and takes what it needs from its function's argument` }] },
    );
  },
};

async function imported(path: string, done: string, url: string): Promise<{ readonly default?: unknown }> {
  try {
    return (await import(url)) as { default?: unknown };
  } catch (thrown) {
    throw new InputError(`${path}: it throws when it is ${done}: ${violationOf(thrown).message}`);
  }
}

/** Base64, because the text is part of a quoted specifier. */
const dataUrl = (text: string): string => `data:text/javascript;base64,${Buffer.from(text).toString('base64')}`;

const example = (kind: FileKind): string => `({ ${kind} }) => ${kind}({ ... })`;

/** A value in a message. */
export function tell(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Promise) return 'a promise';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
