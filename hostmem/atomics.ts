/**
 * Every access to shared memory, and the only file that names `Atomics`.
 *
 * Two grades: the sequentially consistent operations (locks, references, publishing) and the tear-free plain 32-bit
 * read or write (what a hardware walker or `READ_ONCE` does). In a controlled run each of both is a *point*: the thread
 * announces it and goes on when it is its turn. In a free run `memory.control` is null and neither costs more than the
 * access itself. This file does not know who decides, nor what a label means.
 */
import { moveBytes } from './block-move.ts';
import type { Memory } from './memory.ts';

/** What an announced operation does to its word. `START`, `STEP` and `CHOICE` have no word. */
export const Op = {
  START: 0,
  LOAD: 1,
  STORE: 2,
  RMW: 3,
  LOCK: 4,
  UNLOCK: 5,
  RLOCK: 6,
  RUNLOCK: 7,
  WAIT: 8,
  READ: 9,
  WRITE: 10,
  STEP: 11,
  CHOICE: 12,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

/** `(word & mask)` must be (or must not be) `value` before a waiting thread is enabled: a pure function of memory. */
export const Until = { EQUAL: 0, DIFFERENT: 1 } as const;
export type Until = (typeof Until)[keyof typeof Until];

/**
 * What stands between a thread and its next access in a controlled run (implemented by `src/schedule/baton.ts`).
 * All addresses are byte addresses within `memory`.
 */
export interface Control {
  /** Announces an operation; returns when this actor may execute it. */
  point(op: Op, memory: Memory, at: number, label: number): void;
  /** As `point`, for an operation that is possible only while the condition holds. */
  pointWhen(op: Op, memory: Memory, at: number, label: number, mask: number, until: Until, value: number): void;
  /** The value that the operation read or wrote; it enters the trace hash. */
  saw(value: number): void;
  /** A word is about to change: its page is restored after the schedule. */
  dirty(memory: Memory, at: number): void;
  /** A guarded word was written under its lock: no point, but part of the story. */
  wroteGuarded(memory: Memory, at: number, label: number, value: number): void;
  /** A block of the heap is given back: no point, but it comes before or after every access to the block. */
  freed?(memory: Memory, at: number, sizeBytes: number): void;
  /** A word that can be waited for was changed, and nobody was woken. */
  changedUnwoken?(memory: Memory, at: number, label: number): void;
  /** One of `count` alternatives, of which 0 is the usual one: no point, and nothing depends on when it is asked. */
  choose?(count: number, label: number): number;
  /** From now on, or no longer, passive parts of the hardware are late: they act only when no thread can go on. Calls nest. */
  makeLate?(isLate: boolean): void;
  acquired(memory: Memory, lockAt: number, label: number): void;
  released(memory: Memory, lockAt: number): void;
  holds(memory: Memory, lockAt: number): boolean;
  /** A guarded word is about to be touched without its lock (L2). */
  unguarded(memory: Memory, at: number, label: number): void;
}

/** A waiting thread looks again at least this often, so that no lost wake-up of the host can hang it for good. */
const recheckMs = 2_000;

export function load(memory: Memory, at: number, label: number): number {
  const control = memory.control;
  if (control === null) return Atomics.load(memory.words, at >>> 2);
  control.point(Op.LOAD, memory, at, label);
  const value = memory.words[at >>> 2]!;
  control.saw(value);
  return value;
}

export function store(memory: Memory, at: number, value: number, label: number): void {
  const control = memory.control;
  if (control === null) {
    Atomics.store(memory.words, at >>> 2, value);
    return;
  }
  control.point(Op.STORE, memory, at, label);
  put(control, memory, at, value);
}

/** Adds and returns the value before. */
export function add(memory: Memory, at: number, delta: number, label: number): number {
  const control = memory.control;
  if (control === null) return Atomics.add(memory.words, at >>> 2, delta);
  control.point(Op.RMW, memory, at, label);
  const before = memory.words[at >>> 2]!;
  put(control, memory, at, (before + delta) | 0);
  return before;
}

/** Adds unless the word is 0, as `refcount_inc_not_zero`; returns the value before. One point. A plain read guesses what the exchange decides. */
export function addUnlessZero(memory: Memory, at: number, delta: number, label: number): number {
  const control = memory.control;
  if (control !== null) {
    control.point(Op.RMW, memory, at, label);
    const before = memory.words[at >>> 2]!;
    if (before !== 0) put(control, memory, at, (before + delta) | 0);
    else control.saw(before);
    return before;
  }
  for (let seen = memory.words[at >>> 2]!; ; ) {
    if (seen === 0) return 0;
    const found = Atomics.compareExchange(memory.words, at >>> 2, seen, (seen + delta) | 0);
    if (found === seen) return seen;
    seen = found;
  }
}

/** Stores `value` and returns the value before. */
export function exchange(memory: Memory, at: number, value: number, label: number): number {
  const control = memory.control;
  if (control === null) return Atomics.exchange(memory.words, at >>> 2, value);
  control.point(Op.RMW, memory, at, label);
  const before = memory.words[at >>> 2]!;
  put(control, memory, at, value);
  return before;
}

/** Stores `replacement` if the word is `expected`; returns the value found. */
export function compareExchange(memory: Memory, at: number, expected: number, replacement: number, label: number): number {
  const control = memory.control;
  if (control === null) return Atomics.compareExchange(memory.words, at >>> 2, expected, replacement);
  control.point(Op.RMW, memory, at, label);
  const before = memory.words[at >>> 2]!;
  if (before === expected) put(control, memory, at, replacement);
  else control.saw(before);
  return before;
}

/** Plain read of one word: tear-free, unordered. */
export function read(memory: Memory, at: number, label: number): number {
  const control = memory.control;
  if (control !== null) control.point(Op.READ, memory, at, label);
  const value = memory.words[at >>> 2]!;
  if (control !== null) control.saw(value);
  return value;
}

/** Plain write of one word: tear-free, unordered. */
export function write(memory: Memory, at: number, value: number, label: number): void {
  const control = memory.control;
  if (control === null) {
    memory.words[at >>> 2] = value;
    return;
  }
  control.point(Op.WRITE, memory, at, label);
  put(control, memory, at, value);
}

/**
 * Reads the 64-bit entry at an 8-byte-aligned address as one point: returns the low word, leaves the high one in
 * `memory.high`. In a free run the halves are two plain reads; writers store the half with the present bit last
 * (set) or first (clear).
 */
export function read64(memory: Memory, at: number, label: number): number {
  const control = memory.control;
  if (control !== null) control.point(Op.READ, memory, at, label);
  const low = memory.words[at >>> 2]!;
  memory.high = memory.words[(at >>> 2) + 1]!;
  if (control !== null) control.saw(low);
  return low;
}

/** Writes a 64-bit entry as one point, the low word (with the present bit) last. */
export function write64(memory: Memory, at: number, high: number, low: number, label: number): void {
  const control = memory.control;
  const index = at >>> 2;
  if (control === null) {
    if (low === 0) Atomics.store(memory.words, index, 0);
    memory.words[index + 1] = high;
    if (low !== 0) Atomics.store(memory.words, index, low);
    return;
  }
  control.point(Op.WRITE, memory, at, label);
  control.dirty(memory, at);
  memory.words[index + 1] = high;
  memory.words[index] = low;
  control.saw(low);
}

/**
 * Puts a 64-bit entry into an empty slot (low word 0), as one point; returns the low word found, 0 when it was put.
 * Leaves the high word found in `memory.high`. In a free run the high word is stored before the low one is exchanged:
 * parties that race for one slot must want the same high word.
 */
export function install64(memory: Memory, at: number, high: number, low: number, label: number): number {
  const control = memory.control;
  const index = at >>> 2;
  if (control !== null) control.point(Op.RMW, memory, at, label);
  const seen = memory.words[index]!;
  memory.high = memory.words[index + 1]!;
  if (control === null) {
    if (seen !== 0) return seen;
    if (high !== memory.high) memory.words[index + 1] = high;
    return Atomics.compareExchange(memory.words, index, 0, low);
  }
  if (seen === 0) {
    put(control, memory, at, low);
    memory.words[index + 1] = high;
  } else control.saw(seen);
  return seen;
}

/**
 * Puts 64-bit entries into consecutive slots, each as one point, until one is not empty; returns how many it put. Their high words are equal, and
 * each low one is `step` more than the one before. The slots are the caller's to fill: nobody else puts anything there.
 */
export function installRun64(memory: Memory, at: number, high: number, low: number, step: number, count: number, label: number): number {
  if (memory.control !== null) {
    for (let put = 0; put < count; put++) if (install64(memory, at + put * 8, high, (low + put * step) | 0, label) !== 0) return put;
    return count;
  }
  const words = memory.words;
  const first = at >>> 2;
  const end = first + count * 2;
  let value = low;
  let index = first;
  // Two at a time, as long as both are empty.
  for (; index + 2 < end && (words[index]! | words[index + 2]!) === 0; index += 4) {
    words[index + 1] = high;
    words[index] = value;
    words[index + 3] = high;
    words[index + 2] = value + step;
    value = (value + step + step) | 0;
  }
  for (; index < end; index += 2) {
    if (words[index] !== 0) return (index - first) >>> 1;
    words[index + 1] = high;
    words[index] = value;
    value = (value + step) | 0;
  }
  return count;
}

/** Empties consecutive 64-bit slots, each as one point; returns how many were not empty. Nobody else puts anything there. */
export function clearRun64(memory: Memory, at: number, count: number, label: number): number {
  if (memory.control !== null) return clearEach64(memory.control, memory, at, count, label);
  const words = memory.words;
  const end = (at >>> 2) + count * 2;
  let cleared = 0;
  let index = at >>> 2;
  // Two at a time, as long as both are there.
  for (; index + 2 < end && words[index] !== 0 && words[index + 2] !== 0; index += 4) {
    words[index] = 0;
    words[index + 1] = 0;
    words[index + 2] = 0;
    words[index + 3] = 0;
    cleared += 2;
  }
  for (; index < end; index += 2) {
    if (words[index] === 0) continue;
    words[index] = 0;
    words[index + 1] = 0;
    cleared++;
  }
  return cleared;
}

function clearEach64(control: Control, memory: Memory, at: number, count: number, label: number): number {
  let cleared = 0;
  for (let slot = at; slot < at + count * 8; slot += 8) {
    control.point(Op.RMW, memory, slot, label);
    const seen = memory.words[slot >>> 2]!;
    control.saw(seen);
    if (seen === 0) continue;
    poke(memory, slot, 0);
    memory.words[(slot >>> 2) + 1] = 0;
    cleared++;
  }
  return cleared;
}

/** One of `count` alternatives, such as a fault that may come here or not: 0, the usual one, unless a strategy wants another. Never a point. */
export function choose(memory: Memory, count: number, label: number): number {
  return memory.control?.choose?.(count, label) ?? 0;
}

/** Lets the hardware be late from here on, or no longer. Means nothing in a free run. */
export function makeLate(memory: Memory, isLate: boolean): void {
  memory.control?.makeLate?.(isLate);
}

/** Reads a word that no other thread can be writing: under a lock, at rest, or owned. Never a point. */
export function peek(memory: Memory, at: number): number {
  return memory.words[at >>> 2]!;
}

/** Writes a word that no other thread can be touching. Never a point; marks the page. */
export function poke(memory: Memory, at: number, value: number): void {
  if (memory.control !== null) memory.control.dirty(memory, at);
  memory.words[at >>> 2] = value;
}

/** Fills `[at, at + sizeBytes)`, both multiples of 4, with a word; the range must be owned. */
export function fill(memory: Memory, at: number, sizeBytes: number, value: number): void {
  const control = memory.control;
  if (control !== null) for (let page = at & ~4095; page < at + sizeBytes; page += 4096) control.dirty(memory, page);
  const end = (at + sizeBytes) >>> 2;
  if (sizeBytes > 128) memory.words.fill(value, at >>> 2, end);
  else for (let index = at >>> 2; index < end; index++) memory.words[index] = value;
}

/** Makes an owned page, at a multiple of its 4096 bytes, as the pattern says: a quarter of what `fill` costs. */
export function setPage(memory: Memory, at: number, pattern: Uint8Array): void {
  if (memory.control !== null) memory.control.dirty(memory, at);
  moveBytes(memory.bytes, at, pattern, 4096);
}

/** Copies words between owned ranges of one memory or of two. */
export function copy(to: Memory, toAt: number, from: Memory, fromAt: number, sizeBytes: number): void {
  const control = to.control;
  if (control !== null) for (let page = toAt & ~4095; page < toAt + sizeBytes; page += 4096) control.dirty(to, page);
  const target = toAt >>> 2;
  const source = fromAt >>> 2;
  const count = sizeBytes >>> 2;
  if (count > 96) to.words.set(from.words.subarray(source, source + count), target);
  else copyWords(to.words, target, from.words, source, count);
}

/** Four at a time: what a loop itself costs is more than what it moves. */
function copyWords(to: Int32Array, target: number, from: Int32Array, source: number, count: number): void {
  let i = 0;
  for (; i + 3 < count; i += 4) {
    to[target + i] = from[source + i]!;
    to[target + i + 1] = from[source + i + 1]!;
    to[target + i + 2] = from[source + i + 2]!;
    to[target + i + 3] = from[source + i + 3]!;
  }
  for (; i < count; i++) to[target + i] = from[source + i]!;
}

/**
 * Operations that are never points: for what runs between two points as one step (allocators, cache lookups, statistics) and for
 * the scheduler's own words. Sequentially consistent, but for the last two, which are one instruction where the others are calls.
 */
export const silent = {
  load: (memory: Memory, at: number): number => Atomics.load(memory.words, at >>> 2),
  store(memory: Memory, at: number, value: number): void {
    if (memory.control !== null) memory.control.dirty(memory, at);
    Atomics.store(memory.words, at >>> 2, value);
  },
  add(memory: Memory, at: number, delta: number): number {
    if (memory.control !== null) memory.control.dirty(memory, at);
    return Atomics.add(memory.words, at >>> 2, delta);
  },
  compareExchange(memory: Memory, at: number, expected: number, replacement: number): number {
    if (memory.control !== null) memory.control.dirty(memory, at);
    return Atomics.compareExchange(memory.words, at >>> 2, expected, replacement);
  },
  /** A plain read of a word that others write; loads stay in order (x86 TSO). Who waits in a loop calls something else in each turn. */
  read: (memory: Memory, at: number): number => memory.words[at >>> 2]!,
  /**
   * A plain write that hands over what was written before it, which is seen first (x86 TSO). It is no fence: not for who then looks whether
   * others have handed something over, and may go away if not.
   */
  release(memory: Memory, at: number, value: number): void {
    if (memory.control !== null) memory.control.dirty(memory, at);
    memory.words[at >>> 2] = value;
  },
};

/** Sleeps while the word is `value`, a few seconds at most. Free runs only: a controlled wait is modelled. */
export function sleepWhile(memory: Memory, at: number, value: number, timeoutMs: number = recheckMs): void {
  Atomics.wait(memory.words, at >>> 2, value, timeoutMs);
}

/** Wakes up to `count` sleepers of a word; nobody sleeps in a controlled run. */
export function wake(memory: Memory, at: number, count: number = Infinity): void {
  if (memory.control === null) Atomics.notify(memory.words, at >>> 2, count);
}

/**
 * A leaf lock: a spin lock over a section that contains no point, so that in a controlled run nobody can be paused
 * inside it and it needs no point itself.
 */
export function lockLeaf(memory: Memory, at: number): void {
  if (memory.control !== null) return;
  const index = at >>> 2;
  for (let spins = 0; Atomics.compareExchange(memory.words, index, 0, 1) !== 0; spins++) {
    if (spins > 100) Atomics.wait(memory.words, index, 1, 1);
  }
}

/** A plain write: what was written under the lock is seen before it (x86 TSO), and who sleeps looks again by itself. */
export function unlockLeaf(memory: Memory, at: number): void {
  if (memory.control !== null) return;
  memory.words[at >>> 2] = 0;
}

/** The scheduler's own doors: its words are not model state and no point. */
export const door = {
  load: (words: Int32Array, index: number): number => Atomics.load(words, index),
  store: (words: Int32Array, index: number, value: number): number => Atomics.store(words, index, value),
  add: (words: Int32Array, index: number, delta: number): number => Atomics.add(words, index, delta),
  exchange: (words: Int32Array, index: number, value: number): number => Atomics.exchange(words, index, value),
  compareExchange: (words: Int32Array, index: number, expected: number, replacement: number): number =>
    Atomics.compareExchange(words, index, expected, replacement),
  wait: (words: Int32Array, index: number, value: number, timeoutMs: number): 'ok' | 'not-equal' | 'timed-out' =>
    Atomics.wait(words, index, value, timeoutMs),
  waitAsync: (words: Int32Array, index: number, value: number, timeoutMs: number): Promise<string> | string =>
    Atomics.waitAsync(words, index, value, timeoutMs).value,
  notify: (words: Int32Array, index: number, count?: number): number => Atomics.notify(words, index, count),
};

function put(control: Control, memory: Memory, at: number, value: number): void {
  control.dirty(memory, at);
  memory.words[at >>> 2] = value;
  control.saw(value);
}
