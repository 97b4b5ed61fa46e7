/**
 * Views of pages of a memory, a few of them kept: to make one costs a third of what it costs to copy the page.
 */
import { pageBytes, type Memory } from './memory.ts';

/** A power of two. */
const kept = 64;

export class PageViews {
  readonly #memory: Memory;
  readonly #pages: Uint8Array[];
  /** The frame of each. */
  readonly #frames = new Int32Array(kept);

  constructor(memory: Memory) {
    this.#memory = memory;
    this.#pages = Array.from({ length: kept }, () => memory.bytes.subarray(0, pageBytes));
  }

  /** The bytes of a frame. */
  of(frame: number): Uint8Array {
    const place = frame & (kept - 1);
    if (this.#frames[place] !== frame) {
      this.#frames[place] = frame;
      this.#pages[place] = this.#memory.bytes.subarray(frame * pageBytes, (frame + 1) * pageBytes);
    }
    return this.#pages[place]!;
  }
}
