import type { Memory } from '#hostmem/memory';
import { Recorder } from '../hostmem/recorder.ts';

/** Runs a call, and another thread's work when the call comes to the n-th point of a name (from 1), before that operation. */
export function runWith(memory: Memory, name: string, nth: number, work: () => void, call: () => void): void {
  memory.control = new AtPoint(name, nth, () => {
    memory.control = null;
    work();
  });
  try {
    call();
    if (memory.control !== null) throw new Error(`the call never came to '${name}' ${nth} times`);
  } finally {
    memory.control = null;
  }
}

class AtPoint extends Recorder {
  readonly #name: string;
  readonly #work: () => void;
  #left: number;
  constructor(name: string, nth: number, work: () => void) {
    super();
    this.#name = name;
    this.#left = nth;
    this.#work = work;
  }
  override point(op: number, memory: Memory, at: number, label: number): void {
    super.point(op, memory, at, label);
    if (this.points.at(-1) === this.#name && --this.#left === 0) this.#work();
  }
}
