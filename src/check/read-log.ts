/** Which entries hardware reads for a request: the points that its own code announces, noted instead of scheduled. */
import type { Control } from '#hostmem/atomics';
import { labelText } from '#hostmem/labels';
import { Space, type Memory } from '#hostmem/memory';

/** An entry of a table in RAM, as it was read. */
export interface ReadEntry {
  /** As its format names it: `VtdContextEntry.low`, `AmdV1.level3`. */
  readonly name: string;
  /** Byte address in RAM, and the quadword there. */
  readonly at: number;
  readonly value: bigint;
}

export class ReadLog implements Control {
  readonly entries: ReadEntry[] = [];

  point(_op: number, memory: Memory, at: number, label: number): void {
    if (memory.space !== Space.RAM) return;
    const word = (index: number): bigint => BigInt(memory.words[(at >>> 2) + index]! >>> 0);
    this.entries.push({ name: labelText(label), at, value: (word(1) << 32n) | word(0) });
  }

  pointWhen(op: number, memory: Memory, at: number, label: number): void {
    this.point(op, memory, at, label);
  }
  saw(): void {}
  dirty(): void {}
  wroteGuarded(): void {}
  acquired(): void {}
  released(): void {}
  holds(): boolean {
    return true;
  }
  unguarded(): void {}
}
