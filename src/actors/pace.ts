/**
 * The pace of a free run: slices, and the end. Actors repeat their bodies; when a ring of events fills up, all meet,
 * actor 0 judges the slice while everybody stands still, and all go on. Idle waits are places to meet, too.
 *
 * All in one shared buffer; free runs only. It does not know what is judged.
 */
import { door, wake } from '#hostmem/atomics';
import type { History } from '#hostmem/history';
import type { Host } from '#hostmem/host';
import { Space, type Memory } from '#hostmem/memory';

const Word = { stop: 0, broken: 1, over: 2, request: 32, arrived: 64, slice: 96, idle: 128 } as const;
/** Each actor's own: the byte address it sleeps on (0: none), and in which memory; a cache line pair apart. */
const idleWords = 32;
const recheckMs = 2_000;

/** Leaves an actor's body at a place where it holds nothing: the run is over. */
export class Stopped {}

export class Pace {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #host: Host;
  readonly #actors: number;
  readonly #actor: number;
  readonly #history: History;
  /** Judges a slice; true ends the run. Actor 0 has one. */
  readonly #judge: (() => boolean) | null;

  constructor(buffer: SharedArrayBuffer, host: Host, actors: number, actor: number, history: History, judge: (() => boolean) | null) {
    this.#host = host;
    this.#words = new Int32Array(buffer);
    this.#actors = actors;
    this.#actor = actor;
    this.#history = history;
    this.#judge = judge;
  }

  static createBuffer(actors: number): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer((Word.idle + actors * idleWords) * 4);
    // The first meeting is the start: nobody runs before all have joined.
    new Int32Array(buffer)[Word.request] = 1;
    return buffer;
  }

  /** Ends the run: everybody leaves at the next meeting. From any thread. */
  static stop(buffer: SharedArrayBuffer): void {
    const shared = new Int32Array(buffer);
    door.store(shared, Word.stop, 1);
    door.store(shared, Word.request, 1);
  }

  /** Ends the run because this actor broke: what it left half done is not judged. */
  breakOff(): void {
    door.store(this.#words, Word.broken, 1);
    Pace.stop(this.#words.buffer);
  }

  /** Slices judged so far. */
  static slices(buffer: SharedArrayBuffer): number {
    return door.load(new Int32Array(buffer), Word.slice);
  }

  /** Between two runs of a body, and in idle waits: meets the others when a slice ends. Throws `Stopped` at the end. */
  rest(): void {
    const ring = this.#history.ring;
    if (this.#history.length(ring) * 2 > this.#history.capacity && door.exchange(this.#words, Word.request, 1) === 0) this.#wakeIdle();
    if (door.load(this.#words, Word.request) === 0) return;
    this.#meet();
    if (door.load(this.#words, Word.over) !== 0) throw new Stopped();
  }

  /** This actor is about to sleep on a word; whoever ends a slice wakes it. Called before the last look at `rest`. */
  beginIdle(memory: Memory, at: number): void {
    const own = Word.idle + this.#actor * idleWords;
    this.#words[own + 1] = memory.space;
    door.store(this.#words, own, at);
  }
  endIdle(): void {
    door.store(this.#words, Word.idle + this.#actor * idleWords, 0);
  }

  #wakeIdle(): void {
    for (let actor = 0; actor < this.#actors; actor++) {
      const own = Word.idle + actor * idleWords;
      const at = door.load(this.#words, own);
      if (at !== 0) wake(this.#words[own + 1] === Space.RAM ? this.#host.ram : this.#host.kernel, at);
    }
  }

  #meet(): void {
    const slice = door.load(this.#words, Word.slice);
    door.add(this.#words, Word.arrived, 1);
    door.notify(this.#words, Word.arrived);
    if (this.#actor !== 0) {
      while (door.load(this.#words, Word.slice) === slice) door.wait(this.#words, Word.slice, slice, recheckMs);
      return;
    }
    for (let seen = door.load(this.#words, Word.arrived); seen < this.#actors; seen = door.load(this.#words, Word.arrived)) {
      door.wait(this.#words, Word.arrived, seen, recheckMs);
    }
    const isWhole = door.load(this.#words, Word.broken) === 0;
    if (isWhole && this.#judge !== null && this.#judge()) door.store(this.#words, Word.stop, 1);
    door.store(this.#words, Word.arrived, 0);
    // Decided once for all: whoever looked at `stop` itself after the meeting might leave while the others stay.
    if (door.load(this.#words, Word.stop) !== 0) door.store(this.#words, Word.over, 1);
    else door.store(this.#words, Word.request, 0);
    door.add(this.#words, Word.slice, 1);
    door.notify(this.#words, Word.slice);
  }
}
