/**
 * Writes the files of a report into a folder, each whole or not at all: first beside its place, then renamed into it.
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InputError } from '../input-error.ts';
import { chromeTrace } from './chrome-trace.ts';
import type { Failure } from './failure.ts';
import { reportPage } from './page/page.ts';

/** `result` is what `--json` prints. Returns the paths written. Throws `InputError` when the folder cannot be written. */
export function writeReport(folder: string, result: object, story: readonly string[], failure: Failure | null): string[] {
  const files: [string, string][] = [['result.json', `${JSON.stringify(result, null, 2)}\n`]];
  if (story.length > 0) files.push(['story.txt', `${story.join('\n')}\n`]);
  if (failure !== null) files.push(['trace.json', `${JSON.stringify(chromeTrace(failure))}\n`], ['report.html', reportPage(failure)]);
  return writeWhole(folder, files);
}

/** All files are complete on disk before the first of them appears. */
function writeWhole(folder: string, files: readonly (readonly [string, string])[]): string[] {
  const whole = files.map(([name, text]) => ({ path: join(folder, name), draft: join(folder, `.${name}.${process.pid}`), text }));
  try {
    makeFolder(folder);
    for (const { draft, text } of whole) writeFileSync(draft, text);
    for (const { draft, path } of whole) renameSync(draft, path);
  } catch (error) {
    for (const { draft } of whole) discard(draft);
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new InputError(`the report cannot be written to '${folder}' (${code}); name a folder you may write with --out`);
  }
  return whole.map(({ path }) => path);
}

/** Not `mkdir` with `recursive`: where folders cannot be made at all (`/proc`), Node 20 tries for ever. */
function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  makeFolder(dirname(folder));
  mkdirSync(folder);
}

/** A draft below a path that is no folder cannot exist either; the first error is the one to tell. */
function discard(draft: string): void {
  try {
    rmSync(draft, { force: true });
  } catch {
    return;
  }
}
