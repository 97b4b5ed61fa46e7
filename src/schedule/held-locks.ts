/** Which locks an actor or engine holds, as a list in its block: few at a time, and most are let go of in the reverse order. */
import type { Memory } from '#hostmem/memory';
import { BlockWord, lockCapacity, type Board } from './board.ts';

export class HeldLocks {
  readonly #words: Int32Array;
  /** Whose block: the thread's own, or that of the engine whose step it runs. */
  block: number;

  constructor(board: Board, block: number) {
    this.#words = board.words;
    this.block = block;
  }

  add(memory: Memory, lockAt: number): void {
    const words = this.#words;
    const count = words[this.block + BlockWord.lockCount]!;
    if (count === lockCapacity) throw new Error(`an actor holds more than ${lockCapacity} locks`);
    words[this.block + BlockWord.locks + count] = keyOf(memory, lockAt);
    words[this.block + BlockWord.lockCount] = count + 1;
  }

  remove(memory: Memory, lockAt: number): void {
    const words = this.#words;
    const locks = this.block + BlockWord.locks;
    const last = words[this.block + BlockWord.lockCount]! - 1;
    for (let i = last; i >= 0; i--) {
      if (words[locks + i] !== keyOf(memory, lockAt)) continue;
      words[locks + i] = words[locks + last]!;
      words[this.block + BlockWord.lockCount] = last;
      return;
    }
  }

  has(memory: Memory, lockAt: number): boolean {
    const words = this.#words;
    const locks = this.block + BlockWord.locks;
    const key = keyOf(memory, lockAt);
    for (let i = words[this.block + BlockWord.lockCount]! - 1; i >= 0; i--) if (words[locks + i] === key) return true;
    return false;
  }
}

/** Addresses are multiples of 4, so the space fits into the lowest bits. */
const keyOf = (memory: Memory, lockAt: number): number => lockAt | memory.space;
