/**
 * Failures on purpose: whatever may fail for want of something asks here first, and one of those who ask, by its number, is refused.
 * A memory without it (`memory.faults` is null) refuses nobody.
 */
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
