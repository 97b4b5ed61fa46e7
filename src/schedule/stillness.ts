/** How long threads have stood still, by what they count. One look is a second at most: a machine that sleeps stops its threads, and not its clock. */
const longestLookMs = 1_000;

export class Stillness {
  #progress: string | null = null;
  #lookedAt = 0;
  #ms = 0;

  /** At `now`, in milliseconds: how many of them since what the threads count was another. */
  look(progress: string, now: number): number {
    this.#ms = progress === this.#progress ? this.#ms + Math.min(now - this.#lookedAt, longestLookMs) : 0;
    this.#progress = progress;
    this.#lookedAt = now;
    return this.#ms;
  }
}
