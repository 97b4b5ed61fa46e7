/** How a unit reads an entry of several quadwords: in pieces of as many bits as it fetches at once, so that an entry can be seen torn. */
import { peek, read64 } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';

/** Reads `quadwords` of an entry into pairs of words. A piece of `fetchBits` is one point, labelled as its first quadword. */
export function fetchEntry(ram: Memory, at: number, into: Int32Array, quadwords: number, fetchBits: number, labels: readonly number[]): void {
  const piece = fetchBits / 64;
  for (let index = 0; index < quadwords; index++) {
    const isFirst = index % piece === 0;
    into[index * 2] = isFirst ? read64(ram, at + index * 8, labels[index]!) : peek(ram, at + index * 8);
    into[index * 2 + 1] = isFirst ? ram.high : peek(ram, at + index * 8 + 4);
  }
}
