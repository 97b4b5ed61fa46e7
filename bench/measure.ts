/**
 * Measures the rows of a question with tinybench: warmed, then in rounds that take all rows in turn, so that what disturbs
 * the machine disturbs both sides of a ratio.
 */
import { mix32 } from '#hostmem/labels';
import { Bench, type BenchOptions } from 'tinybench';
import type { Answer, Figure, Question, Row } from './question.ts';

/** Milliseconds are for each row. */
interface Plan {
  readonly warmup: BenchOptions;
  readonly round: BenchOptions;
  readonly rounds: number;
}

const always = { warmup: false, throws: true } as const;
const full: Plan = { warmup: { ...always, time: 400 }, round: { ...always, time: 40 }, rounds: 9 };
const tiny: Plan = { warmup: { ...always, time: 0, iterations: 1 }, round: { ...always, time: 0, iterations: 2 }, rounds: 1 };

/** Throws when a call did other work than the first one of its row. */
export function measure(name: string, question: Question, isTiny: boolean): Answer {
  const { rows, within } = question.prepare(isTiny);
  const rounds: (readonly number[])[] = [];
  let checksum = 0;
  const run = (): void => {
    const plan = isTiny ? tiny : full;
    const expected = rows.map((row) => row.call());
    checksum = expected.reduce((sum, value) => mix32(sum ^ value), 0) >>> 0;
    runRound(rows, expected, plan.warmup);
    for (let round = 0; round < plan.rounds; round++) rounds.push(runRound(rows, expected, plan.round));
  };
  if (within === undefined) run();
  else within(run);
  return { name, asks: question.asks, checksum, figures: rows.map((row, index) => figureOf(row, index, rows, rounds)) };
}

/** Nanoseconds per operation, by row. */
function runRound(rows: readonly Row[], expected: readonly number[], options: BenchOptions): number[] {
  const bench = new Bench(options);
  rows.forEach((row, index) => bench.add(row.name, () => checkCall(row, expected[index]!)));
  return bench.runSync().map(({ name, result }, index) => {
    if (result.state !== 'completed') throw new Error(`${name}: the measurement is ${result.state}`);
    return (result.latency.p50 * 1e6) / rows[index]!.operations;
  });
}

function checkCall(row: Row, expected: number): void {
  const value = row.call();
  if (value !== expected) throw new Error(`${row.name}: a call returned ${value}, the first one ${expected}`);
}

function figureOf(row: Row, index: number, rows: readonly Row[], rounds: readonly (readonly number[])[]): Figure {
  const nsPerOperation = median(rounds.map((round) => round[index]!));
  if (row.against === undefined) return { name: row.name, nsPerOperation, against: null, ratio: null };
  const other = rows.findIndex(({ name }) => name === row.against);
  if (other < 0) throw new Error(`${row.name}: there is no row '${row.against}'`);
  return { name: row.name, nsPerOperation, against: row.against, ratio: median(rounds.map((round) => round[index]! / round[other]!)) };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
