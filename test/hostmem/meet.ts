import { door } from '#hostmem/atomics';

/** Returns once `parties` threads have called it with the same word. Spins: they go on at the same moment, not one wake-up later. */
export function meet(word: Int32Array, parties: number): void {
  door.add(word, 0, 1);
  while (door.load(word, 0) < parties);
}
