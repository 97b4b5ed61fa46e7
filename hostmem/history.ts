/**
 * Events: what the model reports about itself, stamped in one global order, in shared memory.
 *
 * An event is 32 bytes: stamp, `kind << 8 | actor`, six words. Each actor writes into a ring of its own in a free run;
 * in a controlled run, where one thread runs at a time, all write into ring 0, which is then in order by itself.
 * This file does not know what an event means: rooms declare theirs with `event()`.
 */
import { door } from './atomics.ts';
import { hashText } from './labels.ts';
import type { Memory } from './memory.ts';

export const eventWords = 8;
const headerWords = 32;
/** Words of the header: the stamp counter, whether a ring ran full, and how often all was forgotten. */
const stampWord = 0;
const overflowWord = 16;
const epochWord = 24;
/** Each ring begins with its own length, on a cache line pair of its own. */
const ringHeaderWords = 32;

/** Bytes of a history with `rings` rings of `capacity` events. */
export function historyBytes(rings: number, capacity: number): number {
  return (headerWords + rings * (ringHeaderWords + capacity * eventWords)) * 4;
}

export class History {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly rings: number;
  readonly capacity: number;
  /** The ring this thread writes. */
  ring = 0;
  /** Who this thread writes as. */
  actor = 0;
  /** Called after an event has been written, in controlled runs only (state oracles at named moments). */
  listener: ((kind: number) => void) | null = null;
  /** Called when somebody wants to know which events are older than now, in controlled runs only: it matters which have come before. */
  asked: (() => void) | null = null;

  constructor(buffer: SharedArrayBuffer, rings: number, capacity: number) {
    this.words = new Int32Array(buffer);
    this.rings = rings;
    this.capacity = capacity;
  }

  /** A stamp that is greater than every stamp before it: an even number. */
  stamp(): number {
    if (this.asked !== null) this.asked();
    return this.#next();
  }

  #next(): number {
    return door.add(this.words, stampWord, 2) + 2;
  }

  /** A moment: greater than every stamp before it, less than every one after it, and no stamp. It costs a plain read. */
  moment(): number {
    if (this.asked !== null) this.asked();
    return this.words[stampWord]! + 1;
  }

  /** Writes one event. A full ring drops it and says so in `overflowed`: the slice was too long. */
  emit(kind: number, a: number, b: number, c: number, d: number, e: number, f: number): void {
    const base = headerWords + this.ring * (ringHeaderWords + this.capacity * eventWords);
    const words = this.words;
    const length = words[base]!;
    if (length >= this.capacity) {
      words[overflowWord] = 1;
      return;
    }
    const at = base + ringHeaderWords + length * eventWords;
    words[at] = this.#next();
    words[at + 1] = (kind << 8) | this.actor;
    words[at + 2] = a;
    words[at + 3] = b;
    words[at + 4] = c;
    words[at + 5] = d;
    words[at + 6] = e;
    words[at + 7] = f;
    words[base] = length + 1;
    if (this.listener !== null) this.listener(kind);
  }

  length(ring: number): number {
    return this.words[headerWords + ring * (ringHeaderWords + this.capacity * eventWords)]!;
  }

  get overflowed(): boolean {
    return this.words[overflowWord] !== 0;
  }

  /** Word index of an event. */
  at(ring: number, index: number): number {
    return headerWords + ring * (ringHeaderWords + this.capacity * eventWords) + ringHeaderWords + index * eventWords;
  }

  /** Forgets the events; stamps go on. Only while nobody writes. */
  clear(): void {
    for (let ring = 0; ring < this.rings; ring++) this.words[headerWords + ring * (ringHeaderWords + this.capacity * eventWords)] = 0;
    this.words[overflowWord] = 0;
  }

  /** Forgets everything, stamps too. */
  reset(): void {
    this.clear();
    this.words[stampWord] = 0;
    this.words[epochWord] = this.words[epochWord]! + 1;
  }

  /** Changes with every `reset`: whoever folds events starts anew. */
  get epoch(): number {
    return this.words[epochWord]!;
  }
}

/** A cursor over one event; `step` functions of invariants read it and keep nothing of it. */
export class Cursor {
  words: Int32Array;
  at = 0;
  constructor(words: Int32Array) {
    this.words = words;
  }
  get stamp(): number {
    return this.words[this.at]!;
  }
  get kind(): number {
    return this.words[this.at + 1]! >>> 8;
  }
  get actor(): number {
    return this.words[this.at + 1]! & 0xff;
  }
}

/** The name and the names of the words of an event kind. */
export interface EventShape {
  readonly name: string;
  readonly fields: readonly string[];
}

const shapes = new Map<number, EventShape>();

/** The shape of an event kind, if the module that declares it is loaded. */
export const shapeOf = (kind: number): EventShape | undefined => shapes.get(kind);

export type EventKind<F extends string> = {
  readonly kind: number;
  readonly name: string;
  /** Emits; missing words are 0. Does nothing where nobody listens. */
  emit(memory: Memory, ...values: number[]): void;
  /** Reads a word of the event under the cursor. */
  readonly get: { readonly [K in F]: (cursor: Cursor) => number };
};

/** Declares an event kind with up to six words. The kind's number is a hash of its name. */
export function event<const F extends readonly string[]>(name: string, fields: F): EventKind<F[number]> {
  if (fields.length > 6) throw new Error(`event '${name}' has ${fields.length} words; 6 is the most`);
  const kind = hashText(name) & 0x7fffff;
  const known = shapes.get(kind);
  if (known !== undefined) throw new Error(`events '${known.name}' and '${name}' have the same number; rename one`);
  shapes.set(kind, { name, fields });
  const get: Record<string, (cursor: Cursor) => number> = {};
  fields.forEach((field, index) => {
    get[field] = (cursor) => cursor.words[cursor.at + 2 + index]!;
  });
  return Object.freeze({
    kind,
    name,
    get: get as EventKind<F[number]>['get'],
    emit(memory: Memory, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): void {
      if (memory.history !== null) memory.history.emit(kind, a, b, c, d, e, f);
    },
  });
}
