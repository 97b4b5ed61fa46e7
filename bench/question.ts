/**
 * What a file in `questions/` exports: one question about speed, and the rows of the table that answers it.
 *
 * A row's call does the same work every time it is called and returns a checksum of it; whoever measures compares, so that
 * a row whose work the compiler has thrown away, or that fails quietly, is no figure but an error.
 */
export interface Row {
  readonly name: string;
  /** Operations of one call: figures are per operation. Enough for some microseconds; few when tiny. */
  readonly operations: number;
  /** Name of the row of the same run that the ratio is taken against. */
  readonly against?: string;
  call(): number;
}

export interface Prepared {
  readonly rows: readonly Row[];
  /** Runs the measurement where the rows need to be run; everything within happens before it returns. */
  within?(measure: () => void): void;
}

export interface Question {
  readonly asks: string;
  /** Builds what the rows work on. `tiny` for tests: the same code, with as little work as reaches all of it. */
  prepare(tiny: boolean): Prepared;
}

export interface Figure {
  readonly name: string;
  /** Median of the rounds' medians. */
  readonly nsPerOperation: number;
  readonly against: string | null;
  /** Median of the rounds' ratios to the row `against`; null without one. */
  readonly ratio: number | null;
}

export interface Answer {
  readonly name: string;
  readonly asks: string;
  /** Of what the calls returned: the same on every machine. */
  readonly checksum: number;
  readonly figures: readonly Figure[];
}
