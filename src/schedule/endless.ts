/**
 * Schedules that go on and on. One that has used half of its budget may only be an unfair one, in which somebody asks again and again for what
 * others never get to do: from there on all go in turn, one step each. One that still does not end is a livelock where everybody's steps
 * come round again with the same values and memory is afterwards as it was before: a lasso. What an actor counts by
 * itself, and stops by, cannot be seen: a round that comes back until the budget is used up counts as one that always does.
 *
 * Until the alarm all this costs nothing: the alarm is the comparison that a budget needs anyway.
 */
import { mix32 } from '#hostmem/labels';
import { BlockWord, Head, TraceWord, traceWords, type Board } from './board.ts';
import type { Checkpoint } from './checkpoint.ts';
import { describeRound } from './explanation.ts';
import type { Choice } from './strategy.ts';
import { entryAt } from './trace.ts';
import { Violation } from './violation.ts';

/** as drawn -> in turn -> last round  by the alarm */
const Phase = { AS_DRAWN: 0, IN_TURN: 1, LAST_ROUND: 2 } as const;

/** A schedule begins. */
export function setAlarm(board: Board): void {
  board.set(Head.phase, Phase.AS_DRAWN);
  board.set(Head.alarm, board.get(Head.budget) >>> 1);
}

export const isInTurn = (board: Board): boolean => board.get(Head.phase) !== Phase.AS_DRAWN;

/** Who goes on when all go in turn. */
export function nextInTurn({ enabled, count, current }: Choice): number {
  for (let i = 0; i < count; i++) if (enabled[i]! > current) return enabled[i]!;
  return enabled[0]!;
}

/** The alarm has gone off, before the operation of the present step: what ends the schedule, or null where it may go on. */
export function answerAlarm(board: Board, checkpoint: Checkpoint, names: readonly string[]): Violation | null {
  const phase = board.get(Head.phase);
  if (phase === Phase.AS_DRAWN) return beFair(board);
  if (phase === Phase.IN_TURN) return goRound(board, checkpoint);
  return checkpoint.hash() === board.get(Head.roundHash) ? livelock(board, names) : tooLong(board);
}

function beFair(board: Board): null {
  board.set(Head.phase, Phase.IN_TURN);
  board.set(Head.alarm, board.get(Head.budget));
  board.set(Head.recording, 1);
  for (let actor = 0; actor < board.actors; actor++) board.set(board.block(actor) + BlockWord.askAt, -1);
  return null;
}

/** The budget is used up: where steps repeat, one more round shows whether memory does. */
function goRound(board: Board, checkpoint: Checkpoint): Violation | null {
  const entries = roundOf(board);
  if (entries === 0) return tooLong(board);
  const last = board.get(Head.traceLength) - 1;
  const steps = board.get(board.traceAt(last) + TraceWord.step) - board.get(board.traceAt(last - entries) + TraceWord.step);
  board.set(Head.phase, Phase.LAST_ROUND);
  board.set(Head.roundEntries, entries);
  board.set(Head.roundHash, checkpoint.hash());
  board.set(Head.alarm, board.get(Head.step) - 1 + steps);
  return null;
}

function livelock(board: Board, names: readonly string[]): Violation {
  const entries = board.get(Head.roundEntries);
  const end = board.get(Head.traceLength) - 1;
  const round = Array.from({ length: entries }, (_, index) => entryAt(board, board.traceAt(end - entries + index)));
  return new Violation('LIVELOCK', describeRound(board, names, round));
}

const tooLong = (board: Board): Violation => new Violation('BUDGET', `the schedule takes more than ${board.get(Head.budget)} steps`);

/**
 * How many entries of the trace make up a round: the smallest period of the last quarter of what the ring holds, the present step left out;
 * 0 where that does not hold two of them. In the first of the steps in turn some may still be on their way into the round.
 */
function roundOf(board: Board): number {
  const end = board.get(Head.traceLength) - 1;
  const length = Math.min(end, board.get(Head.traceCapacity) - 1) >>> 2;
  const hashes = Int32Array.from({ length }, (_, back) => entryHash(board, end - 1 - back));
  const period = periodOf(hashes);
  return 2 * period <= length ? period : 0;
}

function entryHash(board: Board, entry: number): number {
  const at = board.traceAt(entry);
  let hash = 0;
  for (let word = at + TraceWord.actor; word < at + traceWords; word++) hash = mix32(hash ^ board.get(word)) | 0;
  return hash;
}

/** The smallest p such that every element equals that p before it (the failure function of Knuth, Morris and Pratt). */
export function periodOf(values: ArrayLike<number>): number {
  const border = new Int32Array(values.length + 1);
  border[0] = -1;
  for (let i = 0, length = -1; i < values.length; border[++i] = ++length) {
    while (length >= 0 && values[length] !== values[i]) length = border[length]!;
  }
  return values.length - border[values.length]!;
}
