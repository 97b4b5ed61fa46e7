/**
 * What a command is made of: which schedule comes next, when to stop, what is kept of each. Run by the last actor to
 * finish a schedule, so that no round trip to the main thread lies between two.
 *
 * Schedule `i` is a pure function of (seed, i), so that results do not depend on the number of cells. Schedule 0 is the
 * non-preemptive one in every strategy; a cell that does not own it runs it all the same, uncounted, to learn
 * how many choices there are.
 */
import { mix32 } from '#hostmem/labels';
import { BlockWord, Head, hashCapacity, Kind, startOfSchedule, Status, type Board } from './board.ts';
import { clearCoverage, type Coverer } from './coverage.ts';
import { setAlarm } from './endless.ts';
import { describeDifference } from './explanation.ts';
import { isExhaustive, type Exhaustive, type Strategy } from './strategy.ts';
import { Violation } from './violation.ts';

/** One of so many executions is run twice, and the hashes compared. */
export const repeatEvery = 64;

/** Goes to the command's first schedule. */
export function startCommand(board: Board): void {
  const counts = [Head.schedules, Head.executions, Head.failures, Head.choicesOfFirst, Head.disagreeing, Head.distinctHashes, Head.exhausted, Head.overflowed];
  for (const word of [...counts, Head.attempt, Head.index]) board.set(word, 0);
  board.setText(Head.invariant, '');
  board.setText(Head.message, '');
  if (board.get(Head.kind) === Kind.EXPLORE) clearCoverage(board);
}

const zeroAtFirst = [Head.step, Head.choices, Head.failed, Head.recordedCount, Head.traceLength, Head.lastActor, Head.redundant, Head.late];

/** Clears what belongs to one schedule. */
export function clearSchedule(board: Board): void {
  for (let i = 0; i < zeroAtFirst.length; i++) board.set(zeroAtFirst[i]!, 0);
  board.set(Head.current, startOfSchedule);
  board.set(Head.unguardedActor, -1);
  board.set(Head.recording, board.get(Head.tracing) !== 0 || board.get(Head.records) !== 0 || board.get(Head.kind) === Kind.EXPLORE ? 1 : 0);
  setAlarm(board);
  // From 1: 0 is the seed's own stream.
  board.set(Head.program, board.get(Head.fixedProgram) < 0 ? board.get(Head.index) + 1 : board.get(Head.fixedProgram));
  board.set(Head.hashLow, 0x243f6a88);
  board.set(Head.hashHigh, 0x13198a2e);
  board.set(Head.random, mix32(mix32(board.get(Head.seed)) ^ mix32(board.get(Head.index) + 0x9e3779b9)) | 0);
  for (let actor = 0; actor < board.actors + board.engines; actor++) clearBlock(board, actor);
}

function clearBlock(board: Board, actor: number): void {
  const block = board.block(actor);
  const isEngine = actor >= board.actors;
  board.set(block + BlockWord.status, isEngine ? Status.ENGINE : Status.NOT_STARTED);
  board.set(block + BlockWord.until, -1);
  // An engine has always announced its next step.
  board.set(block + BlockWord.ops, isEngine ? 1 : 0);
  board.set(block + BlockWord.askAt, -1);
  board.set(block + BlockWord.lockCount, 0);
}

/** Whether the strategy has to be asked at every operation: to count choices, or to trace them. */
export function asksAlways(board: Board): boolean {
  return board.get(Head.tracing) !== 0 || (board.get(Head.kind) === Kind.EXPLORE && board.get(Head.index) === 0);
}

/** Notes a violation as the command's; the schedule's own flag is set too. */
export function recordFailure(board: Board, actor: number, violation: Violation): void {
  board.set(Head.failed, 1);
  board.set(Head.failedActor, actor);
  for (let one = 0; one < board.actors; one++) board.set(board.block(one) + BlockWord.failedOps, board.get(board.block(one) + BlockWord.ops));
  board.setText(Head.invariant, violation.invariant);
  board.setText(Head.message, violation.message);
  board.setDisagreeing(violation.words);
}

/** Takes stock of the schedule that has ended; returns whether another one follows. `names` are of actors and engines. */
export function advance(board: Board, strategy: Strategy, coverer: Coverer, names: readonly string[]): boolean {
  board.set(Head.executions, board.get(Head.executions) + 1);
  return board.get(Head.kind) === Kind.REPLAY ? advanceReplay(board) : advanceExploration(board, strategy, coverer, names);
}

function advanceReplay(board: Board): boolean {
  const done = board.get(Head.schedules) + 1;
  board.set(Head.schedules, done);
  if (board.get(Head.failed) !== 0) board.set(Head.failures, board.get(Head.failures) + 1);
  noteHash(board);
  return done < board.get(Head.times);
}

function noteHash(board: Board): void {
  const known = board.get(Head.distinctHashes);
  for (let i = 0; i < Math.min(known, hashCapacity); i++) {
    const at = Head.hashes + 2 * i;
    if (board.get(at) === board.get(Head.hashLow) && board.get(at + 1) === board.get(Head.hashHigh)) return;
  }
  if (known < hashCapacity) {
    board.set(Head.hashes + 2 * known, board.get(Head.hashLow));
    board.set(Head.hashes + 2 * known + 1, board.get(Head.hashHigh));
  }
  board.set(Head.distinctHashes, known + 1);
}

function advanceExploration(board: Board, strategy: Strategy, coverer: Coverer, names: readonly string[]): boolean {
  const index = board.get(Head.index);
  const isFirstRun = board.get(Head.attempt) === 0;
  if (index === 0) board.set(Head.choicesOfFirst, board.get(Head.choices));
  if (!isFirstRun && !isSameAsFirst(board)) recordNondeterminism(board, names);
  const isOwn = index > 0 || board.get(Head.first) === 0;
  if (isOwn && isFirstRun) count(board, coverer);
  if (board.get(Head.failed) !== 0) {
    board.set(Head.failures, board.get(Head.failures) + 1);
    if (board.get(Head.goesOn) === 0) return false;
  }
  if (isOwn && isFirstRun && index % repeatEvery === 0) {
    repeat(board);
    return true;
  }
  board.set(Head.attempt, 0);
  board.set(Head.index, isOwn ? index + board.get(Head.stride) : board.get(Head.first));
  if (!isExhaustive(strategy)) return board.get(Head.index) < board.get(Head.end);
  return proceed(board, strategy) && board.get(Head.schedules) < board.get(Head.end);
}

/** A schedule that an exhaustive strategy ran without being the first of its kind is no new one. */
function count(board: Board, coverer: Coverer): void {
  if (board.get(Head.redundant) !== 0) return;
  board.set(Head.schedules, board.get(Head.schedules) + 1);
  coverer.fold();
}

function proceed(board: Board, strategy: Exhaustive): boolean {
  if (strategy.proceed(board)) return true;
  if (board.get(Head.overflowed) === 0) board.set(Head.exhausted, 1);
  return false;
}

function repeat(board: Board): void {
  board.set(Head.attempt, 1);
  board.set(Head.firstHashLow, board.get(Head.hashLow));
  board.set(Head.firstHashHigh, board.get(Head.hashHigh));
  board.keepFirst();
}

function isSameAsFirst(board: Board): boolean {
  return board.get(Head.firstHashLow) === board.get(Head.hashLow) && board.get(Head.firstHashHigh) === board.get(Head.hashHigh);
}

function recordNondeterminism(board: Board, names: readonly string[]): void {
  const first = hashText64(board.get(Head.firstHashHigh), board.get(Head.firstHashLow));
  const second = hashText64(board.get(Head.hashHigh), board.get(Head.hashLow));
  const where = describeDifference(board, names);
  const message = `schedule ${board.get(Head.index)} was run twice and differed${where}; trace hashes ${first} and ${second}`;
  recordFailure(board, startOfSchedule, new Violation('NONDETERMINISM', message));
}

/** A trace hash as 16 hexadecimal digits. */
export function hashText64(high: number, low: number): string {
  return (high >>> 0).toString(16).padStart(8, '0') + (low >>> 0).toString(16).padStart(8, '0');
}
