/**
 * Failures on purpose: whatever may fail for want of something asks here first, and one of those who ask, by its number, is refused.
 * A memory without it (`memory.faults` is null) refuses nobody.
 */
import { choose } from './atomics.ts';
import { label } from './labels.ts';
import type { Memory } from './memory.ts';

export class FaultInjection {
  /** How many have asked. */
  asked = 0;
  /** What was refused, or null. */
  refused: string | null = null;
  readonly #nth: number;

  /** Refuses the `nth` that asks, counted from 1; 0 refuses none and only counts. */
  constructor(nth: number) {
    this.#nth = nth;
  }

  /** Whether `what` has to fail now. */
  refuses(what: string): boolean {
    this.asked++;
    if (this.asked !== this.#nth) return false;
    this.refused = what;
    return true;
  }
}

/** What strategies choose between that and nothing. */
const refusalLabel = label('is refused what it asks for');
export const killLabel = label('is killed');
export const resetLabel = label('resets the device');
export const unplugLabel = label('unplugs the device');
export const lateLabel = label('finds the hardware late');

/** What comes behind all that a call does: it stands, though the caller is told EFAULT. */
const answer = 'a copy to the user';

/** Refuses one at most, if any: whom, a strategy decides. Answers are written. */
export class ChosenRefusal extends FaultInjection {
  readonly #memory: Memory;

  constructor(memory: Memory) {
    super(0);
    this.#memory = memory;
  }

  override refuses(what: string): boolean {
    this.asked++;
    if (this.refused !== null || what === answer || choose(this.#memory, 2, refusalLabel) === 0) return false;
    this.refused = what;
    return true;
  }
}
