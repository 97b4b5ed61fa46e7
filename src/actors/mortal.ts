/**
 * A thread whose process may be killed. A kill takes effect where the thread is in user mode, before a system call, as in Linux: locks are never
 * abandoned inside the kernel. All threads of the process end at their next one; the last of them gives the process's memory and files back.
 */
import { choose } from '#hostmem/atomics';
import { killLabel } from '#hostmem/fault-injection';
import { exit } from '../kernel/fork.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Process } from '../kernel/process.ts';

/** Leaves the body of a thread whose process was killed. */
export class Killed {}

export class Mortal {
  readonly #kernel: Kernel;
  readonly #threads: number;

  /** `threads` of the process may be killed; they all have to say so, in the first step of their bodies. */
  constructor(kernel: Kernel, threads: number) {
    this.#kernel = kernel;
    this.#threads = threads;
  }

  /** The thread is in user mode. Throws `Killed`. */
  atUserMode(): void {
    const { memory, process } = this.#kernel;
    if (this.#threads > 1 && Process.killed.load(memory, process) !== 0) throw new Killed();
    if (choose(memory, 2, killLabel) === 0) return;
    Process.killed.store(memory, process, 1);
    throw new Killed();
  }

  /** The thread ends, whether it was killed or had done. */
  end(): void {
    const { memory, process } = this.#kernel;
    const isLast = Process.endedThreads.add(memory, process, 1) + 1 === this.#threads;
    if (isLast && Process.killed.load(memory, process) !== 0) exit(this.#kernel);
  }
}
