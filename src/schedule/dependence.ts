/**
 * Which operations depend on each other: the same word, and not both of a kind that commutes.
 *
 * A step is an operation and what its actor does up to the next one. Of the latter three things count: accesses of an
 * engine, a block given back to the heap (a write of all of it), and an event (a word for every judge: each sees the order of
 * those that it folds). What runs under a lock is ordered by the lock. What is silent for good does not count: where an allocator puts
 * something, and the contents of a frame when it is given back.
 */
import { Op } from '#hostmem/atomics';
import { markedLabel } from '#hostmem/labels';
import { Head, TraceWord, type Board } from './board.ts';
import { isGuarded, isInside, opOf, spaceOf } from './trace.ts';

/** How an operation treats its word; readers of a lock come and go in any order. */
export const Effect = { NONE: 0, READS: 1, SHARES: 2, WRITES: 3 } as const;
export type Effect = (typeof Effect)[keyof typeof Effect];

const effects = new Map<Op, Effect>([
  [Op.START, Effect.NONE],
  [Op.CHOICE, Effect.NONE],
  [Op.LOAD, Effect.READS],
  [Op.READ, Effect.READS],
  [Op.WAIT, Effect.READS],
  [Op.RLOCK, Effect.SHARES],
  [Op.RUNLOCK, Effect.SHARES],
]);
const effectOf: readonly Effect[] = Object.values(Op).map((op) => effects.get(op) ?? Effect.WRITES);

export const effect = (op: number): Effect => effectOf[op]!;

/** Whether two operations on one word depend on each other. */
export const conflict = (one: Effect, other: Effect): boolean =>
  one !== Effect.NONE && other !== Effect.NONE && (one !== other || one === Effect.WRITES);

/** Whether the later of two operations that conflict could have come first: who waits for a lock cannot overtake its release. */
export function canSwap(earlier: number, later: number): boolean {
  const takes = later === Op.LOCK || later === Op.RLOCK;
  const gives = earlier === Op.UNLOCK || earlier === Op.RUNLOCK;
  return !(takes && gives);
}

/** A word of a host as one number. Addresses are multiples of 4. */
export const wordKey = (space: number, at: number): number => at | space;

/** The word that stands for the order of the events that one judge sees. */
export const eventWord = (judge: number): number => -8 - 4 * judge;
export const eventLabel = markedLabel('event');

/** The operations of the last schedule, as the trace ring has them, without allocating. */
export class Accesses {
  #board: Board | null = null;
  #at = 0;

  /** Turns to an entry; returns whether it is an operation: guarded writes are none. */
  turn(board: Board, entry: number): boolean {
    this.#board = board;
    this.#at = board.traceAt(entry);
    return !isGuarded(this.#flags);
  }

  get #flags(): number {
    return this.#board!.words[this.#at + TraceWord.flags]!;
  }
  /** Not the operation of the step itself, but of what follows it. */
  get isInside(): boolean {
    return isInside(this.#flags);
  }
  get actor(): number {
    return this.#board!.words[this.#at + TraceWord.actor]!;
  }
  get op(): number {
    return opOf(this.#flags);
  }
  get key(): number {
    return wordKey(spaceOf(this.#flags), this.#board!.words[this.#at + TraceWord.at]!);
  }
  get label(): number {
    return this.#board!.words[this.#at + TraceWord.label]!;
  }
}

/** Whether the ring still holds all of the last schedule. */
export const isWhole = (board: Board): boolean => board.get(Head.traceLength) <= board.get(Head.traceCapacity);

/** Locks are meant to be contended: no race. */
export const isLockOp = (op: number): boolean => op === Op.LOCK || op === Op.UNLOCK || op === Op.RLOCK || op === Op.RUNLOCK;
