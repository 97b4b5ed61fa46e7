/**
 * Measures the rows of a question with tinybench: warmed, then in rounds that take all rows in turn, so that what disturbs
 * the machine disturbs both sides of a ratio.
 */
import { mix32 } from '#hostmem/labels';
import { Bench, type BenchOptions } from 'tinybench';
import type { Answer, Figure, Question, Row, Setting } from './question.ts';

/** Milliseconds are for each row. */
interface Plan {
  readonly warmup: BenchOptions;
  readonly round: BenchOptions;
  readonly rounds: number;
}

const always = { warmup: false, throws: true, retainSamples: true, iterations: 5 } as const;
const full: Plan = { warmup: { ...always, time: 400 }, round: { ...always, time: 40 }, rounds: 9 };
const tiny: Plan = { warmup: { ...always, time: 0, iterations: 1 }, round: { ...always, time: 0, iterations: 2 }, rounds: 1 };

/** The samples of each row in one round: nanoseconds per operation. */
type Round = readonly (readonly number[])[];

/** Throws when a call did other work than the first one of its row. */
export function measure(name: string, question: Question, isTiny: boolean, setting: Setting): Answer {
  const { rows, within } = question.prepare(isTiny, setting);
  const rounds: Round[] = [];
  let expected: number[] = [];
  const run = (): void => {
    const plan = isTiny ? tiny : full;
    expected = rows.map((row) => row.call());
    runRound(rows, expected, plan.warmup);
    for (let round = 0; round < plan.rounds; round++) rounds.push(runRound(rows, expected, plan.round));
  };
  if (within === undefined) run();
  else within(run);
  return { name, asks: question.asks, figures: rows.map((row, index) => figureOf(row, index, rows, rounds, mix32(expected[index]!) >>> 0)) };
}

function runRound(rows: readonly Row[], expected: readonly number[], options: BenchOptions): Round {
  const bench = new Bench(options);
  rows.forEach((row, index) => bench.add(row.name, () => checkCall(row, expected[index]!)));
  return bench.runSync().map(({ name, result }, index) => {
    if (result.state !== 'completed') throw new Error(`${name}: the measurement is ${result.state}`);
    return (result.latency.samples ?? []).map((ms) => (ms * 1e6) / rows[index]!.operations);
  });
}

function checkCall(row: Row, expected: number): void {
  const value = row.call();
  if (value !== expected) throw new Error(`${row.name}: a call returned ${value}, the first one ${expected}`);
}

function figureOf(row: Row, index: number, rows: readonly Row[], rounds: readonly Round[], checksum: number): Figure {
  const { name, unit = 'ns/op', against = null } = row;
  const ratios = against === null ? [] : ratiosOf(row.name, index, rows.findIndex((other) => other.name === against), against, rounds);
  const times = rounds.flatMap((round) => round[index]!);
  const values = unit === 'ratio' ? ratios.map((ratio) => 1 / ratio) : unit === 'op/s' ? times.map((ns) => 1e9 / ns) : times;
  const sorted = values.toSorted((a, b) => a - b);
  return {
    name, unit, median: at(sorted, 0.5), p10: at(sorted, 0.1), p90: at(sorted, 0.9), samples: sorted.length, checksum, against,
    ratio: against === null ? null : median(ratios),
  };
}

/** Of each round, the time of the row over that of the other one. */
function ratiosOf(name: string, index: number, other: number, against: string, rounds: readonly Round[]): number[] {
  if (other < 0) throw new Error(`${name}: there is no row '${against}'`);
  return rounds.map((round) => median(round[index]!) / median(round[other]!));
}

const median = (values: readonly number[]): number => at(values.toSorted((a, b) => a - b), 0.5);

/** The value that a share of the sorted ones is below. */
const at = (sorted: readonly number[], share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
