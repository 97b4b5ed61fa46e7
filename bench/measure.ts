/**
 * Measures the rows of a question, warmed, in rounds that take all rows in turn, so that what disturbs the machine disturbs both
 * sides of a ratio. Calls are timed by tinybench; what is a matter of threads or processes measures itself.
 */
import { mix32 } from '#hostmem/labels';
import { Bench, type BenchOptions } from 'tinybench';
import type { Answer, Figure, Prepared, Question, RatioRow, Row, Sample, SampledRow, Setting, TimedRow } from './question.ts';

/** Milliseconds are for each row. */
interface Plan {
  readonly warmup: BenchOptions;
  readonly round: BenchOptions;
  readonly rounds: number;
}

const always = { warmup: false, throws: true, retainSamples: true, iterations: 5 } as const;
const full: Plan = { warmup: { ...always, time: 400 }, round: { ...always, time: 40 }, rounds: 9 };
const tiny: Plan = { warmup: { ...always, time: 0, iterations: 1 }, round: { ...always, time: 0, iterations: 2 }, rounds: 1 };

type Measured = TimedRow | SampledRow;

/** What the rounds found of one row: the times of each, in nanoseconds per operation. */
interface Found {
  readonly row: Measured;
  checksum: number | null;
  readonly rounds: number[][];
  readonly mib: number[];
}

/** Throws when a row did other work than at first. */
export function measure(name: string, question: Question, isTiny: boolean, setting: Setting): Answer {
  const prepared = question.prepare(isTiny, setting);
  const plan = isTiny ? tiny : { ...full, rounds: prepared.rounds ?? full.rounds };
  const found = prepared.rows.filter(isMeasured).map((row): Found => ({ row, checksum: null, rounds: [], mib: [] }));
  const run = (): void => {
    for (const one of found) if (!('sample' in one.row)) timeCalls(one.row, one, plan.warmup);
    for (let round = 0; round < plan.rounds; round++) for (const one of found) measureRow(one, plan.round);
  };
  if (prepared.within === undefined) run();
  else prepared.within(run);
  return { name, asks: question.asks, figures: figuresOf(prepared, found) };
}

const isMeasured = (row: Row): row is Measured => !('of' in row);

function measureRow(found: Found, options: BenchOptions): void {
  const { row } = found;
  if (!('sample' in row)) {
    found.rounds.push(timeCalls(row, found, options));
    return;
  }
  const { value, checksum, mib }: Sample = row.sample();
  compare(found, checksum);
  found.rounds.push([value]);
  if (mib !== undefined) found.mib.push(mib);
}

function timeCalls(row: TimedRow, found: Found, options: BenchOptions): number[] {
  const bench = new Bench(options);
  bench.add(row.name, () => compare(found, row.call()));
  const [task] = bench.runSync();
  if (task?.result.state !== 'completed') throw new Error(`${row.name}: the measurement is ${task?.result.state}`);
  return (task.result.latency.samples ?? []).map((ms) => (ms * 1e6) / row.operations);
}

function compare(found: Found, checksum: number): void {
  found.checksum ??= checksum;
  if (checksum !== found.checksum) throw new Error(`${found.row.name}: a call returned ${checksum}, the first one ${found.checksum}`);
}

const figuresOf = ({ rows }: Prepared, found: readonly Found[]): Figure[] => rows.map((row) => (isMeasured(row) ? figureOf(row, found) : shareOf(row, found)));

function figureOf(row: Measured, found: readonly Found[]): Figure {
  const { name, unit = 'ns/op', against = null } = row;
  const own = byName(found, name, name);
  const ratios = against === null ? [] : ratiosOf(own, byName(found, against, name));
  const times = own.rounds.flat();
  const values = unit === 'op/s' ? times.map((ns) => 1e9 / ns) : unit === 'ratio' && against !== null ? ratios.map((ratio) => 1 / ratio) : times;
  const mib = own.mib.length === 0 ? null : median(own.mib);
  return { name, unit, ...spreadOf(values), checksum: own.checksum!, against, ratio: against === null ? null : median(ratios), mib };
}

function shareOf({ name, of, against }: RatioRow, found: readonly Found[]): Figure {
  const own = byName(found, of, name);
  const ratios = ratiosOf(own, byName(found, against, name));
  return { name, unit: 'ratio', ...spreadOf(ratios.map((ratio) => 1 / ratio)), checksum: own.checksum!, against, ratio: median(ratios), mib: null };
}

function byName(found: readonly Found[], name: string, asker: string): Found {
  const one = found.find(({ row }) => row.name === name);
  if (one === undefined) throw new Error(`${asker}: there is no row '${name}'`);
  return { ...one, checksum: mix32(one.checksum!) >>> 0 };
}

/** Of each round, the time of the row over that of the other one. */
const ratiosOf = (own: Found, other: Found): number[] => own.rounds.map((times, round) => median(times) / median(other.rounds[round]!));

function spreadOf(values: readonly number[]): Pick<Figure, 'median' | 'p10' | 'p90' | 'samples'> {
  const sorted = values.toSorted((a, b) => a - b);
  return { median: at(sorted, 0.5), p10: at(sorted, 0.1), p90: at(sorted, 0.9), samples: sorted.length };
}

const median = (values: readonly number[]): number => at(values.toSorted((a, b) => a - b), 0.5);

/** The value that a share of the sorted ones is below. */
const at = (sorted: readonly number[], share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
