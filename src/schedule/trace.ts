/**
 * The trace ring: every operation of the last schedule, the insides of engines' steps included, and guarded writes where a
 * story is wanted. Exploring writes it too: race analysis, coverage and the comparison of two runs read it.
 */
import { Op } from '#hostmem/atomics';
import { labelText } from '#hostmem/labels';
import type { Space } from '#hostmem/memory';
import { Head, TraceWord, type Board } from './board.ts';

const opNames = Object.keys(Op) as (keyof typeof Op)[];

const Flag = { CHOICE: 1 << 8, GUARDED: 1 << 9, INSIDE: 1 << 10, VALUE: 1 << 11, SPACE: 12 } as const;

/** Parts of an entry's flags, for those who read the ring without making objects. */
export const opOf = (flags: number): number => flags & 0xff;
export const spaceOf = (flags: number): number => (flags >>> Flag.SPACE) & 1;
export const isInside = (flags: number): boolean => (flags & Flag.INSIDE) !== 0;
export const isGuarded = (flags: number): boolean => (flags & Flag.GUARDED) !== 0;

export interface TraceEntry {
  readonly step: number;
  readonly actor: number;
  readonly op: keyof typeof Op;
  readonly space: Space;
  readonly at: number;
  /** As text where the reading thread has loaded the module that made the label. */
  readonly label: string;
  readonly labelNumber: number;
  /** What was read or written, where the operation has a value. */
  readonly value: number | null;
  /** Somebody else could have gone on instead. */
  readonly choice: boolean;
  /** A write under its lock: no point. */
  readonly guarded: boolean;
  /** Within an engine's step, or otherwise part of a step: no point. */
  readonly inside: boolean;
}

/** Appends to the ring; whoever holds the baton. */
export class Tracer {
  readonly #board: Board;
  readonly #words: Int32Array;

  constructor(board: Board) {
    this.#board = board;
    this.#words = board.words;
  }

  /** A point that is executed now. */
  point(actor: number, op: Op, space: Space, at: number, label: number): void {
    this.#append(actor, op | (this.#words[Head.isChoice] !== 0 ? Flag.CHOICE : 0), space, at, label);
  }
  inside(actor: number, op: Op, space: Space, at: number, label: number): void {
    this.#append(actor, op | Flag.INSIDE, space, at, label);
  }
  guarded(actor: number, space: Space, at: number, label: number, value: number): void {
    this.#append(actor, Op.WRITE | Flag.GUARDED, space, at, label);
    this.value(value);
  }

  /** The value of the operation that was appended last. */
  value(value: number): void {
    const words = this.#words;
    const at = this.#board.traceAt(words[Head.traceLength]! - 1);
    words[at + TraceWord.value] = value;
    words[at + TraceWord.flags] = words[at + TraceWord.flags]! | Flag.VALUE;
  }

  #append(actor: number, flags: number, space: Space, address: number, label: number): void {
    const words = this.#words;
    const length = words[Head.traceLength]!;
    const at = this.#board.traceAt(length);
    words[Head.traceLength] = length + 1;
    words[at + TraceWord.step] = words[Head.step]!;
    words[at + TraceWord.actor] = actor | 0;
    words[at + TraceWord.flags] = flags | (space << Flag.SPACE);
    words[at + TraceWord.at] = address | 0;
    words[at + TraceWord.label] = label | 0;
    words[at + TraceWord.value] = 0;
  }
}

/** What the ring still holds of the last schedule, oldest first. */
export function readTrace(board: Board): TraceEntry[] {
  const length = board.get(Head.traceLength);
  const kept = Math.min(length, board.get(Head.traceCapacity));
  return Array.from({ length: kept }, (_, index) => entryAt(board, board.traceAt(length - kept + index)));
}

/** The entry at a word index of the board. */
export function entryAt(board: Board, at: number): TraceEntry {
  const flags = board.get(at + TraceWord.flags);
  const labelNumber = board.get(at + TraceWord.label);
  return {
    step: board.get(at + TraceWord.step),
    actor: board.get(at + TraceWord.actor),
    op: opNames[opOf(flags)]!,
    space: spaceOf(flags) as Space,
    at: board.get(at + TraceWord.at) >>> 0,
    label: labelNumber === 0 ? '' : labelText(labelNumber),
    labelNumber,
    value: (flags & Flag.VALUE) === 0 ? null : board.get(at + TraceWord.value),
    choice: (flags & Flag.CHOICE) !== 0,
    guarded: isGuarded(flags),
    inside: isInside(flags),
  };
}
