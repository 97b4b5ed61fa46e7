/**
 * The state of a memory at rest, and the way back to it: stores mark 4 KiB pages, restoring copies the marked ones.
 */
import { moveBytes } from './block-move.ts';
import { pageBytes, type Memory } from './memory.ts';

const pageWords = 1024;

/** So many pages are put back without leaving JavaScript: what `memcpy` saves, the way there costs after a hand-off. */
const few = 3;

/** One byte-sized flag a page plus the list of marked pages, in shared memory: any thread may be the one to restore. */
export class DirtyPages {
  readonly #words: Int32Array;
  /** Pages of the snapshot that were copied back before. */
  readonly #clean: Uint8Array[] = [];

  /** `buffer` has `DirtyPages.bytes(memory)` bytes, zeroed. */
  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  static bytes(memorySizeBytes: number): number {
    return (1 + 2 * Math.ceil(memorySizeBytes / 4096)) * 4;
  }

  /** Marks the page of a byte address. Only the thread that holds the baton calls this. */
  mark(at: number): void {
    const words = this.#words;
    const pages = (words.length - 1) >>> 1;
    const page = at >>> 12;
    if (words[1 + page] !== 0) return;
    words[1 + page] = 1;
    words[1 + pages + words[0]!] = page;
    words[0] = words[0]! + 1;
  }

  get count(): number {
    return this.#words[0]!;
  }

  /** Of the contents of the marked pages, in the order in which they were marked. */
  hash(memory: Memory, seed: number): number {
    let hash = seed;
    for (let i = 0; i < this.count; i++) {
      const from = this.#words[1 + ((this.#words.length - 1) >>> 1) + i]! * pageWords;
      for (let word = from; word < from + pageWords; word++) hash = (Math.imul(hash, 31) + memory.words[word]!) | 0;
    }
    return hash;
  }

  /** Copies every marked page back from the snapshot, the same one every time, and clears the marks. */
  restore(memory: Memory, snapshot: Int32Array): void {
    const words = this.#words;
    const pages = (words.length - 1) >>> 1;
    const count = words[0]!;
    for (let i = 0; i < count; i++) {
      const page = words[1 + pages + i]!;
      const at = page * pageBytes;
      const clean = (this.#clean[page] ??= bytesOf(snapshot, at));
      if (count > few) moveBytes(memory.bytes, at, clean, pageBytes);
      else memory.bytes.set(clean, at);
      words[1 + page] = 0;
    }
    words[0] = 0;
  }
}

/** Of a page, at its byte address. */
function bytesOf(snapshot: Int32Array, at: number): Uint8Array {
  return new Uint8Array(snapshot.buffer, snapshot.byteOffset + at, pageBytes);
}

/** A copy of a memory, shared with every thread that may have to restore it. */
export function takeSnapshot(memory: Memory): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(memory.sizeBytes);
  new Int32Array(buffer).set(memory.words);
  return buffer;
}

/** The byte address of the first word that differs from the snapshot, or -1. */
export function firstDifference(memory: Memory, snapshot: Int32Array): number {
  for (let i = 0; i < snapshot.length; i++) if (memory.words[i] !== snapshot[i]) return i * 4;
  return -1;
}
