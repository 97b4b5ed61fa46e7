/**
 * One operation of an execution, as the checkers that need no scenario read it: an entry of the scheduler's trace.
 */
export interface TracedStep {
  readonly step: number;
  readonly actor: number;
  /** A name of `Op`. */
  readonly op: string;
  /** 0 RAM, 1 kernel memory. */
  readonly space: 0 | 1;
  /** Byte address. */
  readonly at: number;
  /** `Record.field`. */
  readonly label: string;
  /** What was read or left behind, where the operation has a value. */
  readonly value: number | null;
  /** A write under its lock: no point. */
  readonly guarded: boolean;
}

/** One number for a word of either memory. */
export const wordOf = ({ space, at }: TracedStep): number => at | space;
