/**
 * `dmarena merge`: unites what the shards of an exploration have answered.
 */
import { readFileSync } from 'node:fs';
import { InputError } from '../input-error.ts';
import { merge as unite, type ShardFile } from '../merge.ts';
import type { ShardResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';
import { summary } from './explore.ts';

export interface MergeOptions {
  /** Files with what `explore --shard` printed with `--json`, or wrote with `--out`. */
  readonly paths: readonly string[];
}

/** 0 when no shard found anything, 1 when one did. */
export async function merge({ paths }: MergeOptions, terminal: Terminal): Promise<number> {
  const result = unite(paths.map(readShard));
  const { violation } = result;
  const story = violation === null ? [] : [violation.message, `dmarena replay ${violation.token}`];
  terminal.say(...summary(result, terminal), ...story);
  terminal.answer(result);
  return violation === null ? 0 : 1;
}

function readShard(path: string): ShardFile {
  const text = readText(path);
  try {
    const result = JSON.parse(text) as unknown;
    if (isShardResult(result)) return { path, result };
  } catch {
    throw new InputError(`${path}: not JSON; give what 'dmarena explore --shard i/n --json' printed`);
  }
  throw new InputError(`${path}: not the result of a shard; give what 'dmarena explore --shard i/n --json' printed`);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new InputError(`no result can be read at '${path}' (${code}); 'dmarena explore --shard i/n --out <dir>' writes result.json there`);
  }
}

/** The members that uniting relies on. */
function isShardResult(value: unknown): value is ShardResult {
  if (!isRecord(value) || !isRecord(value['shard']) || !isRecord(value['coverage'])) return false;
  const { shard, violation } = value;
  const isOutcome = violation === null ? shard['failedAt'] === null : isRecord(violation) && typeof violation['token'] === 'string' && isCount(shard['failedAt']);
  return isOutcome && isShare(shard) && [value['schedules'], value['seconds']].every((one) => typeof one === 'number');
}

const isShare = ({ number, of, cover }: Readonly<Record<string, unknown>>): boolean =>
  isCount(number) && isCount(of) && number >= 1 && number <= of && typeof cover === 'string';
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
