import { Op, type Control } from '#hostmem/atomics';
import { labelText } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';

const names = Object.fromEntries(Object.entries(Op).map(([name, number]) => [number, name]));

/** Lets every point pass and writes down what it saw: what one thread alone announces. */
export class Recorder implements Control {
  /** `LOAD TestCrate.weight`, in order. */
  readonly points: string[] = [];
  readonly unguardedLabels: string[] = [];
  readonly guardedWrites: string[] = [];
  readonly dirtyPages = new Set<string>();
  readonly #held: string[] = [];
  /** Called at every point, before the operation is executed: what another thread does in between. */
  between: (() => void) | null = null;

  point(op: number, _memory: Memory, _at: number, label: number): void {
    this.points.push(`${names[op]} ${labelText(label)}`);
    const between = this.between;
    this.between = null;
    if (between !== null) between();
  }
  pointWhen(op: number, memory: Memory, at: number, label: number): void {
    this.point(op, memory, at, label);
  }
  saw(): void {}
  dirty(memory: Memory, at: number): void {
    this.dirtyPages.add(`${memory.space}:${at >>> 12}`);
  }
  wroteGuarded(_memory: Memory, _at: number, label: number): void {
    this.guardedWrites.push(labelText(label));
  }
  acquired(memory: Memory, lockAt: number): void {
    this.#held.push(`${memory.space}:${lockAt}`);
  }
  released(memory: Memory, lockAt: number): void {
    const index = this.#held.lastIndexOf(`${memory.space}:${lockAt}`);
    if (index >= 0) this.#held.splice(index, 1);
  }
  holds(memory: Memory, lockAt: number): boolean {
    return this.#held.includes(`${memory.space}:${lockAt}`);
  }
  unguarded(_memory: Memory, _at: number, label: number): void {
    this.unguardedLabels.push(labelText(label));
  }
}
