/**
 * Views of pages of a memory, a few of them kept: to make one costs a third of what it costs to copy the page.
 */
import type { Memory } from './memory.ts';

const pageWords = 1024;
/** A power of two. */
const kept = 64;

export class PageViews {
  readonly #memory: Memory;
  readonly #pages: Int32Array[];
  /** The frame of each. */
  readonly #frames = new Int32Array(kept);

  constructor(memory: Memory) {
    this.#memory = memory;
    this.#pages = Array.from({ length: kept }, () => memory.words.subarray(0, pageWords));
  }

  /** The words of a frame. */
  of(frame: number): Int32Array {
    const place = frame & (kept - 1);
    if (this.#frames[place] !== frame) {
      this.#frames[place] = frame;
      this.#pages[place] = this.#memory.words.subarray(frame * pageWords, (frame + 1) * pageWords);
    }
    return this.#pages[place]!;
  }
}
