/**
 * What the schedules of an exploration have had in them: hand-offs of a word from one actor to another, pairs of sites that
 * met in an order, and classes of traces. Folded from the trace ring behind every schedule, into a table on the board.
 *
 * Two schedules are of one class when every two operations that depend on each other come in the same order in both: the
 * hash of a class is that of the graph of those orders, whatever order the operations were executed in.
 */
import { mix32 } from '#hostmem/labels';
import { CoverWord, Head, type Board } from './board.ts';
import { Accesses, conflict, effect, Effect, eventLabel, isLockOp } from './dependence.ts';

/** Kinds of entries of the table; in the header, how many there are of each. */
export const Covered = { HAND_OFF: 0, SITE_PAIR: 1, TRACE_CLASS: 2, ONCE: 3, FULL: 4 } as const;
const coveredWords = 5;

/** The operations of one actor on one word, summed up so far in a schedule. */
interface WordState {
  lastActor: number;
  lastEffect: Effect;
  lastSite: number;
  write: number;
  writeHigh: number;
  reads: number;
  readsHigh: number;
  shares: number;
  sharesHigh: number;
}

const access = new Accesses();

export function clearCoverage(board: Board): void {
  for (let word = 0; word < coveredWords; word++) board.set(Head.covered + word, 0);
  board.clearCover();
}

/** Folds the schedule that has ended; nothing of one that the ring could not hold. */
export function cover(board: Board): void {
  const length = board.get(Head.traceLength);
  if (length > board.get(Head.traceCapacity)) {
    board.set(Head.covered + Covered.FULL, 1);
    return;
  }
  const words = new Map<number, WordState>();
  const past = new Int32Array(2 * (board.actors + board.engines));
  for (let entry = 0; entry < length; entry++) {
    if (!access.turn(board, entry) || effect(access.op) === Effect.NONE) continue;
    const state = stateOf(words, access.key);
    noteMeeting(board, state);
    foldPast(past, state);
  }
  let low = 0x243f6a88;
  let high = 0x13198a2e;
  for (let actor = 0; actor < past.length; actor += 2) {
    low = mix32(low ^ past[actor]!);
    high = mix32((high + past[actor + 1]!) ^ low);
  }
  note(board, Covered.TRACE_CLASS, low | 0, high | 0);
}

function stateOf(words: Map<number, WordState>, key: number): WordState {
  let state = words.get(key);
  if (state === undefined) {
    const none = { write: key, writeHigh: ~key, reads: 0, readsHigh: 0, shares: 0, sharesHigh: 0 };
    state = { lastActor: -1, lastEffect: Effect.NONE, lastSite: 0, ...none };
    words.set(key, state);
  }
  return state;
}

/** Two actors, one after the other on a word, with operations that depend on each other. */
function noteMeeting(board: Board, state: WordState): void {
  const { actor, op, key, label } = access;
  const site = Math.imul(label, 16) + op;
  const isMeeting = state.lastActor >= 0 && state.lastActor !== actor && conflict(state.lastEffect, effect(op));
  if (isMeeting) {
    note(board, Covered.HAND_OFF, mix32(key) | 0, (state.lastActor << 8) | actor);
    if (!isLockOp(op) && label !== eventLabel) note(board, Covered.SITE_PAIR, state.lastSite, site);
  }
  state.lastActor = actor;
  state.lastEffect = effect(op);
  state.lastSite = site;
}

/** The hash of an operation with all that it depends on: what its actor did before, and the conflicting ones on its word. */
function foldPast(past: Int32Array, state: WordState): void {
  const { actor, op, key, label } = access;
  const kind = effect(op);
  const seesReads = kind === Effect.READS ? 0 : state.reads;
  const seesReadsHigh = kind === Effect.READS ? 0 : state.readsHigh;
  const seesShares = kind === Effect.SHARES ? 0 : state.shares;
  const seesSharesHigh = kind === Effect.SHARES ? 0 : state.sharesHigh;
  const what = mix32(key ^ mix32((label << 4) ^ op));
  const low = mix32(past[2 * actor]! + mix32(what ^ mix32(state.write + mix32(seesReads + 1) + Math.imul(seesShares, 5))));
  const high = mix32((past[2 * actor + 1]! ^ low) + mix32(what + mix32(state.writeHigh ^ seesReadsHigh) + Math.imul(seesSharesHigh, 9)));
  past[2 * actor] = low;
  past[2 * actor + 1] = high;
  if (kind === Effect.READS) {
    state.reads = (state.reads + low) | 0;
    state.readsHigh = (state.readsHigh + high) | 0;
  } else if (kind === Effect.SHARES) {
    state.shares = (state.shares + low) | 0;
    state.sharesHigh = (state.sharesHigh + high) | 0;
  } else {
    state.write = low;
    state.writeHigh = high;
    state.reads = state.readsHigh = state.shares = state.sharesHigh = 0;
  }
}

/** Enters a thing into the table, or counts it once more. */
function note(board: Board, kind: number, low: number, high: number): void {
  const { words } = board;
  const mask = words[Head.coverCapacity]! - 1;
  for (let probe = 0, at = mix32(low ^ mix32(high + kind)); probe < 64; probe++, at++) {
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
