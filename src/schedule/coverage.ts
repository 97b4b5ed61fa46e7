/**
 * What the schedules of an exploration have had in them: hand-offs of a word from one actor to another, pairs of sites that
 * met in an order, and classes of traces. Folded from the trace ring behind every schedule, into a table on the board.
 *
 * Two schedules are of one class when every two operations that depend on each other come in the same order in both: the
 * hash of a class is that of the graph of those orders, whatever order the operations were executed in.
 */
import { Op } from '#hostmem/atomics';
import { mixSigned } from '#hostmem/labels';
import { CoverWord, Head, TraceWord, traceWords, type Board } from './board.ts';
import { conflict, effect, Effect, eventLabel, isLockOp, wordKey } from './dependence.ts';
import { isGuarded, opOf, spaceOf } from './trace.ts';

/** Kinds of entries of the table; in the header, how many there are of each. */
export const Covered = { HAND_OFF: 0, SITE_PAIR: 1, TRACE_CLASS: 2, ONCE: 3, FULL: 4 } as const;
const coveredWords = 5;

/**
 * What is known of a word within a schedule: who was there last and how, and hashes of 64 bits of the last write, and of the
 * reads and the shared uses since (sums: they commute).
 */
const Of = { KEY: 0, TURN: 1, ACTOR: 2, EFFECT: 3, SITE: 4, WRITE: 5, READS: 7, SHARES: 9 } as const;
const stateWords = 12;

export function clearCoverage(board: Board): void {
  for (let word = 0; word < coveredWords; word++) board.set(Head.covered + word, 0);
  board.clearCover();
}

/** Folds schedules; its own memory is scratch, all that counts is on the board. */
export class Coverer {
  readonly #board: Board;
  /** By the hash of a word; a state is of this schedule when its turn is. */
  #states = new Int32Array(256 * stateWords);
  #used = 0;
  #turn = 0;
  readonly #past: Int32Array;

  constructor(board: Board) {
    this.#board = board;
    this.#past = new Int32Array(2 * (board.actors + board.engines));
  }

  /** Folds the schedule that has ended; nothing of one that the ring could not hold. */
  fold(): void {
    const board = this.#board;
    const { words } = board;
    const length = words[Head.traceLength]!;
    if (length > words[Head.traceCapacity]!) {
      words[Head.covered + Covered.FULL] = 1;
      return;
    }
    this.#turn++;
    this.#used = 0;
    // A call of `fill` costs more than a few words.
    for (let word = 0; word < this.#past.length; word++) this.#past[word] = 0;
    const end = board.traceAt(0) + length * traceWords;
    for (let at = board.traceAt(0); at < end; at += traceWords) {
      const flags = words[at + TraceWord.flags]!;
      const op = opOf(flags);
      const kind = effect(op);
      if (op === Op.CHOICE) this.#foldChoice(words[at + TraceWord.actor]!, words[at + TraceWord.value]!);
      if (kind === Effect.NONE || isGuarded(flags)) continue;
      const key = wordKey(spaceOf(flags), words[at + TraceWord.at]!);
      this.#foldStep(this.#stateOf(key), key, words[at + TraceWord.actor]!, op, kind, words[at + TraceWord.label]!);
    }
    this.#noteClass();
  }

  /** What an actor does after another alternative is another thing. */
  #foldChoice(actor: number, taken: number): void {
    for (let word = 2 * actor; word < 2 * actor + 2; word++) this.#past[word] = mixSigned(this.#past[word]! ^ mixSigned(taken + 1));
  }

  #foldStep(state: number, key: number, actor: number, op: number, kind: Effect, label: number): void {
    const states = this.#states;
    const site = Math.imul(label, 16) + op;
    const last = states[state + Of.ACTOR]!;
    if (last >= 0 && last !== actor && conflict(states[state + Of.EFFECT]! as Effect, kind)) {
      note(this.#board, Covered.HAND_OFF, mixSigned(key), (last << 8) | actor);
      if (!isLockOp(op) && label !== eventLabel) note(this.#board, Covered.SITE_PAIR, states[state + Of.SITE]!, site);
    }
    states[state + Of.ACTOR] = actor;
    states[state + Of.EFFECT] = kind;
    states[state + Of.SITE] = site;
    this.#foldPast(state, 2 * actor, kind, mixSigned(key ^ mixSigned(site)));
  }

  /** The hash of an operation with all that it depends on: what its actor did before, and the conflicting ones on its word. */
  #foldPast(state: number, past: number, kind: Effect, what: number): void {
    const states = this.#states;
    const seesReads = kind === Effect.READS ? 0 : -1;
    const seesShares = kind === Effect.SHARES ? 0 : -1;
    const before = states[state + Of.WRITE]! ^ Math.imul((states[state + Of.READS]! & seesReads) + 1, 5) ^ Math.imul(states[state + Of.SHARES]! & seesShares, 9);
    const beforeHigh = states[state + Of.WRITE + 1]! ^ (states[state + Of.READS + 1]! & seesReads) ^ Math.imul(states[state + Of.SHARES + 1]! & seesShares, 17);
    const low = mixSigned(Math.imul(this.#past[past]!, 3) ^ mixSigned(what ^ before));
    const high = mixSigned(this.#past[past + 1]! ^ low ^ mixSigned(what ^ mixSigned(beforeHigh)));
    this.#past[past] = low;
    this.#past[past + 1] = high;
    if (kind === Effect.WRITES) {
      states[state + Of.WRITE] = low;
      states[state + Of.WRITE + 1] = high;
      this.#forgetReads(state);
      return;
    }
    const sum = state + (kind === Effect.READS ? Of.READS : Of.SHARES);
    states[sum] = states[sum]! + low;
    states[sum + 1] = states[sum + 1]! + high;
  }

  #forgetReads(state: number): void {
    const states = this.#states;
    states[state + Of.READS] = 0;
    states[state + Of.READS + 1] = 0;
    states[state + Of.SHARES] = 0;
    states[state + Of.SHARES + 1] = 0;
  }

  #noteClass(): void {
    const past = this.#past;
    let low = 0x243f6a88;
    let high = 0x13198a2e;
    for (let actor = 0; actor < past.length; actor += 2) {
      low = mixSigned(low ^ past[actor]!);
      high = mixSigned((high + past[actor + 1]!) ^ low);
    }
    note(this.#board, Covered.TRACE_CLASS, low, high);
  }

  /** Index of a word's state, a new one if this schedule has not met the word. */
  #stateOf(key: number): number {
    const mask = this.#states.length / stateWords - 1;
    for (let slot = mixSigned(key); ; slot++) {
      const state = (slot & mask) * stateWords;
      if (this.#states[state + Of.TURN] !== this.#turn) return this.#addState(state, key);
      if (this.#states[state + Of.KEY] === key) return state;
    }
  }

  #addState(state: number, key: number): number {
    const states = this.#states;
    if (this.#used * 2 > states.length / stateWords) {
      this.#grow();
      return this.#stateOf(key);
    }
    this.#used++;
    states[state + Of.KEY] = key;
    states[state + Of.TURN] = this.#turn;
    states[state + Of.ACTOR] = -1;
    states[state + Of.WRITE] = key;
    states[state + Of.WRITE + 1] = 0;
    this.#forgetReads(state);
    return state;
  }

  #grow(): void {
    const old = this.#states;
    this.#states = new Int32Array(old.length * 2);
    this.#used = 0;
    for (let from = 0; from < old.length; from += stateWords) {
      if (old[from + Of.TURN] === this.#turn) this.#states.set(old.subarray(from, from + stateWords), this.#stateOf(old[from + Of.KEY]!));
    }
  }
}

/** Enters a thing into the table, or counts it once more. */
function note(board: Board, kind: number, low: number, high: number): void {
  const { words } = board;
  const mask = words[Head.coverCapacity]! - 1;
  for (let probe = 0, at = mixSigned(low ^ mixSigned(high + kind)); probe < 64; probe++, at++) {
    const entry = board.coverAt(at & mask);
    const times = words[entry + CoverWord.times]!;
    if (times === 0) {
      words[entry + CoverWord.low] = low;
      words[entry + CoverWord.high] = high;
      words[entry + CoverWord.kind] = kind;
      words[entry + CoverWord.times] = 1;
      words[Head.covered + kind]! += 1;
      if (kind === Covered.TRACE_CLASS) words[Head.covered + Covered.ONCE]! += 1;
      return;
    }
    if (words[entry + CoverWord.low] !== low || words[entry + CoverWord.high] !== high || words[entry + CoverWord.kind] !== kind) continue;
    words[entry + CoverWord.times] = times + 1;
    if (kind === Covered.TRACE_CLASS && times === 1) words[Head.covered + Covered.ONCE]! -= 1;
    return;
  }
  words[Head.covered + Covered.FULL] = 1;
}

/** Everything in the table, as it travels between cells: three words each, kind, low and high, and how often. */
export function readCover(board: Board): Int32Array {
  const found: number[] = [];
  for (let entry = 0; entry < board.get(Head.coverCapacity); entry++) {
    const at = board.coverAt(entry);
    const times = board.get(at + CoverWord.times);
    if (times > 0) found.push(board.get(at + CoverWord.kind), board.get(at + CoverWord.low), board.get(at + CoverWord.high), times);
  }
  return Int32Array.from(found);
}

/** The hashes of the classes in a table that `readCover` read, in order. */
export function classesOf(cover: Int32Array): string[] {
  const found: string[] = [];
  for (let i = 0; i < cover.length; i += 4) {
    if (cover[i] === Covered.TRACE_CLASS) found.push(`${(cover[i + 2]! >>> 0).toString(16).padStart(8, '0')}${(cover[i + 1]! >>> 0).toString(16).padStart(8, '0')}`);
  }
  return found.sort();
}
