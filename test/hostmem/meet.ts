import { door } from '#hostmem/atomics';

/** Returns once `parties` threads have called it with the same word: so that they really run at the same time. */
export function meet(word: Int32Array, parties: number): void {
  if (door.add(word, 0, 1) === parties - 1) door.notify(word, 0);
  for (let seen = door.load(word, 0); seen < parties; seen = door.load(word, 0)) door.wait(word, 0, seen, 1000);
}
