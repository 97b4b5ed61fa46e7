/** What an actor has done, counted for progress and results: plain words in shared memory, a cache line pair an actor. */

/** Names in the order of their words. `translations` counts pages of DMA, hit or fault. */
export const counterNames = ['translations', 'dma', 'maps', 'unmaps', 'replaces', 'faults', 'rounds'] as const;
export type CounterName = (typeof counterNames)[number];
export type Counts = Record<CounterName, number>;

/** Two words a counter (low, high), 128 bytes and more an actor. */
const actorWords = 32;

export class Counters {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #base: number;

  constructor(buffer: SharedArrayBuffer, actor: number) {
    this.#words = new Int32Array(buffer);
    this.#base = actor * actorWords;
  }

  static createBuffer(actors: number): SharedArrayBuffer {
    return new SharedArrayBuffer(actors * actorWords * 4);
  }

  add(name: CounterName, count: number): void {
    const at = this.#base + counterNames.indexOf(name) * 2;
    const low = (this.#words[at]! >>> 0) + count;
    this.#words[at] = low | 0;
    if (low > 0xffffffff) this.#words[at + 1]! += 1;
  }

  read(name: CounterName): number {
    const at = this.#base + counterNames.indexOf(name) * 2;
    return (this.#words[at]! >>> 0) + this.#words[at + 1]! * 0x1_0000_0000;
  }

  /** The sums over all actors. */
  static total(buffer: SharedArrayBuffer, actors: number): Counts {
    const counts = Object.fromEntries(counterNames.map((name) => [name, 0])) as Counts;
    for (let actor = 0; actor < actors; actor++) {
      const own = new Counters(buffer, actor);
      for (const name of counterNames) counts[name] += own.read(name);
    }
    return counts;
  }
}
