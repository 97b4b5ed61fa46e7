/**
 * What a file in `questions/` exports: one question about speed, and the rows of the table that answers it.
 *
 * A row does the same work every time it is measured and returns a checksum of it; whoever measures compares, so that
 * a row whose work the compiler has thrown away, or that fails quietly, is no figure but an error.
 */

/** `ratio`: how many times the throughput of the row `against`. */
export type Unit = 'ns/op' | 'op/s' | 'ratio';

interface Named {
  readonly name: string;
  /** What the figure is in; nanoseconds per operation unless it is given. */
  readonly unit?: Unit;
  /** Name of the row of the same run that the ratio is taken against. */
  readonly against?: string;
}

/** Measured by calling it over and over. */
export interface TimedRow extends Named {
  /** Operations of one call, of all threads together: figures are per operation. Enough for some microseconds; few when tiny. */
  readonly operations: number;
  call(): number;
}

/** Measures itself, once a round: what threads do in a steady state, or what a process takes to start. */
export interface SampledRow extends Named {
  sample(): Sample;
}

/** How many times the throughput of the row `against` the row `of` has. */
export interface RatioRow {
  readonly name: string;
  readonly of: string;
  readonly against: string;
}

export type Row = TimedRow | SampledRow | RatioRow;

export interface Sample {
  /** Nanoseconds per operation; of a row in `ratio` that names no other one, the figure itself. */
  readonly value: number;
  readonly checksum: number;
  /** What it took of memory, where that was asked: resident, in MiB a thread. */
  readonly mib?: number;
}

export interface Prepared {
  readonly rows: readonly Row[];
  /** How many rounds take a figure of every row; 9 unless it is given. */
  readonly rounds?: number;
  /** Runs the measurement where the rows need to be run; everything within happens before it returns. */
  within?(measure: () => void): void;
}

/** What the command line decides. */
export interface Setting {
  /** How many threads rows that are about threads have. */
  readonly threads: number;
  /** Where every order that is to look random comes from. */
  readonly seed: number;
}

export interface Question {
  readonly asks: string;
  /** Builds what the rows work on. `tiny` for tests: the same code, with as little work as reaches all of it. */
  prepare(tiny: boolean, setting: Setting): Prepared;
}

/** The figure of a row: of its samples the median, and what a tenth of them is below, and above. */
export interface Figure {
  readonly name: string;
  readonly unit: Unit;
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  readonly samples: number;
  /** Of what the calls returned: the same on every machine, for one seed. */
  readonly checksum: number;
  /** Median of the rounds' ratios, in time, to the row `against`; null without one. */
  readonly against: string | null;
  readonly ratio: number | null;
  /** Median of what it took of memory; null where that was not asked. */
  readonly mib: number | null;
}

export interface Answer {
  readonly name: string;
  readonly asks: string;
  readonly figures: readonly Figure[];
}
