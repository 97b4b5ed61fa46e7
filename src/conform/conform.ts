/**
 * Plays recordings of a real kernel to the model, a fresh player a file, and finds the first difference of each.
 */
import { readdirSync, statSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../input-error.ts';
import type { ConformResult, Difference } from '../results.ts';
import { firstDifference, type Played, type Player } from './compare.ts';
import { readTrace, type TraceLine } from './trace-file.ts';

/** Makes the player of one file; `lines` are all it will be asked to play. */
export type MakePlayer = (file: string, lines: readonly TraceLine[]) => Player | Promise<Player>;

type Verdict = 'passed' | Difference | { readonly file: string; readonly why: string };

/** All files below the paths, in order. Throws `InputError` for a path that is not there and for a broken recording. */
export async function conform(paths: readonly string[], makePlayer: MakePlayer): Promise<ConformResult> {
  // All are read before the first is played: a broken recording is said at once.
  const recordings = traceFiles(paths).map((file) => ({ file, lines: readTrace(file) }));
  const failed: Difference[] = [];
  const skipped: { file: string; why: string }[] = [];
  for (const { file, lines } of recordings) {
    const verdict = await playFile(file, lines, await makePlayer(file, lines));
    if (verdict === 'passed') continue;
    if ('why' in verdict) skipped.push(verdict);
    else failed.push(verdict);
  }
  return { files: recordings.length, passed: recordings.length - failed.length - skipped.length, failed, skipped };
}

async function playFile(file: string, lines: readonly TraceLine[], player: Player): Promise<Verdict> {
  for (const line of lines) {
    const outcome = await playLine(player, line);
    if ('skip' in outcome) return { file, why: `line ${line.line}, ${line.call}: ${outcome.skip}` };
    const found = 'differs' in outcome ? outcome.differs : firstDifference(line, outcome);
    if (found === null) continue;
    const { field, expected, got } = found;
    return { file, line: line.line, call: line.call, expected: `${field} ${expected}`, got: `${field} ${got}` };
  }
  return 'passed';
}

/** A model that breaks at a line answers nothing there: a difference of this file, and the others are played all the same. */
async function playLine(player: Player, line: TraceLine): Promise<Played> {
  try {
    return await player.play(line);
  } catch (error) {
    if (error instanceof InputError) throw error;
    return { differs: { field: 'the model', expected: 'to answer', got: `broken: ${error instanceof Error ? error.message : String(error)}` } };
  }
}

/** The recordings that the paths name: a file itself, of a folder all `.jsonl` below it. Each once. */
export function traceFiles(paths: readonly string[]): string[] {
  const files = new Set<string>();
  for (const path of paths) {
    const stats: Stats | undefined = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined) throw new InputError(`no trace at '${path}'; name a .jsonl file or a folder of them`);
    const found = stats.isDirectory() ? below(path) : [path];
    if (found.length === 0) throw new InputError(`no .jsonl file below '${path}'; name a folder of recordings`);
    for (const file of found) files.add(file);
  }
  return [...files];
}

const below = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .map((name) => join(folder, name));
