/**
 * A share of an exploration, for machines that have nothing in common but the code: shard `i` of `n` runs schedules i - 1, i - 1 + n, ... of
 * those that one run would have. What it found and covered travels in its answer, and `merge` unites the answers of all shards.
 */
import { InputError } from './input-error.ts';

export interface Shard {
  /** From 1. */
  readonly number: number;
  readonly of: number;
}

export const wholeRun: Shard = { number: 1, of: 1 };
const mostShards = 4096;

/** `2/3`. Throws `InputError`. */
export function parseShard(text: string): Shard {
  const match = /^(\d{1,4})\/(\d{1,4})$/.exec(text);
  const [number, of] = [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
  if (number < 1 || number > of || of > mostShards) throw new InputError(`--shard '${text}' is not a share of ${mostShards} at most, counted from 1; for example --shard 2/3`);
  return { number, of };
}

/** How many of schedules 0 to `count` are the shard's. */
export const sharedOut = ({ number, of }: Shard, count: number): number => Math.max(0, Math.ceil((count - (number - 1)) / of));

/** What a shard's answer has beside its own result, so that it can be united with the others'. */
export interface ShardPart extends Shard {
  /** Schedules that all shards have together, or null where only a budget of time ends them. */
  readonly asked: number | null;
  readonly vms: number | null;
  /** The number of the failing schedule among those of the whole run. */
  readonly failedAt: number | null;
  /** Hash of the code. */
  readonly code: string;
  /** Scenario, variant and invariants, with hashes of those that are files from outside. */
  readonly subject: string;
  /** What was covered: base64 of what `readCover` reads. */
  readonly cover: string;
}

export function packCover(covers: readonly Int32Array[]): string {
  return Buffer.concat(covers.map((cover) => Buffer.from(cover.buffer, cover.byteOffset, cover.byteLength))).toString('base64');
}

export function unpackCover(packed: string): Int32Array {
  const bytes = Uint8Array.from(Buffer.from(packed, 'base64'));
  return new Int32Array(bytes.buffer, 0, bytes.length >>> 2);
}
