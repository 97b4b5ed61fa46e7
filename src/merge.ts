/**
 * What all shards of an exploration have found, as one run would have answered: the failing schedule with the lowest number wins, and what
 * was covered is united. The shards ran side by side, so the longest is how long it took.
 */
import { sumUp } from './covered.ts';
import { InputError } from './input-error.ts';
import type { ExploreResult, ShardResult } from './results.ts';
import { unpackCover } from './shard.ts';

export interface ShardFile {
  readonly path: string;
  readonly result: ShardResult;
}

/** Throws `InputError` where the files are not all shards, each once, of one exploration. */
export function merge(files: readonly ShardFile[]): ExploreResult {
  const [first] = files;
  if (first === undefined) throw new InputError(`nothing to merge; give the results of all shards, as in 'dmarena merge 1.json 2.json'`);
  for (const file of files) checkSame(first, file);
  checkComplete(first, files);
  const results = files.map(({ result }) => result);
  const failing = results.filter(({ violation }) => violation !== null).sort((one, other) => one.shard.failedAt! - other.shard.failedAt!)[0];
  const done = results.reduce((sum, { schedules }) => sum + schedules, 0);
  const seconds = Math.max(...results.map((result) => result.seconds));
  const schedules = failing === undefined ? done : failing.shard.failedAt! + 1;
  return {
    ...onlyResult(first.result),
    schedules,
    seconds,
    schedulesPerSecond: schedules / seconds,
    tooLong: results.some(({ tooLong }) => tooLong),
    coverage: sumUp(results.map(({ shard }) => unpackCover(shard.cover)), done, results.some(({ coverage }) => coverage.truncated)),
    violation: failing?.violation ?? null,
  };
}

function onlyResult(result: ShardResult): ExploreResult {
  const common: Partial<ShardResult> & ExploreResult = { ...result };
  delete common.shard;
  return common;
}

/** What shards of one exploration have in common, in the words of the command line. */
function characteristics({ scenario, variant, strategy, seed, shard }: ShardResult): Readonly<Record<string, string>> {
  return {
    scenario,
    variant,
    '--strategy': strategy,
    '--seed': String(seed),
    '--schedules': String(shard.asked ?? 'not given'),
    '--vms': String(shard.vms ?? 'not given'),
    'files of the scenario, variant or invariants': shard.subject,
    code: shard.code,
    'number of shards': String(shard.of),
  };
}

function checkSame(first: ShardFile, other: ShardFile): void {
  const [expected, found] = [characteristics(first.result), characteristics(other.result)];
  const differing = Object.keys(expected).find((name) => expected[name] !== found[name]);
  if (differing === undefined) return;
  const sides = `'${expected[differing]}' in ${first.path}, '${found[differing]}' in ${other.path}`;
  throw new InputError(`not of one exploration: ${differing} is ${sides}; merge shards that differ in --shard alone`);
}

function checkComplete({ result }: ShardFile, files: readonly ShardFile[]): void {
  const { of } = result.shard;
  for (let number = 1; number <= of; number++) {
    const found = files.filter((file) => file.result.shard.number === number);
    if (found.length === 0) throw new InputError(`shard ${number}/${of} is missing; give the results of all ${of}`);
    if (found.length > 1) throw new InputError(`shard ${number}/${of} is there ${found.length} times: ${found.map(({ path }) => path).join(', ')}; give each once`);
  }
}
