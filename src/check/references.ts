/** Whether what a record refers to is still there: for oracles that would rather say so than follow the reference. */
import type { Memory } from '#hostmem/memory';
import { UseAfterFree, type Ref } from '#hostmem/object';

/** A kind of record that is reached by reference. */
interface Checked<T extends string> {
  check(memory: Memory, ref: Ref<T>): void;
}

export function isLive<T extends string>(memory: Memory, type: Checked<T>, ref: Ref<T>): boolean {
  try {
    type.check(memory, ref);
    return true;
  } catch (error) {
    if (error instanceof UseAfterFree) return false;
    throw error;
  }
}
