/** What is judged when a schedule has ended: its trace where locking is to be checked, and the first guarded word that was touched without its lock. */
import type { Space } from '#hostmem/memory';
import { Head, Kind, type Board } from './board.ts';
import { repeatEvery } from './command.ts';
import { isWhole } from './dependence.ts';
import { describeUnguarded } from './explanation.ts';
import { readTrace, type TraceEntry } from './trace.ts';
import { Violation } from './violation.ts';

/** Of traced schedules and of those that are run twice: reading a trace costs as much as the schedule. */
export function traceToCheck(board: Board, isTracing: boolean): readonly TraceEntry[] | null {
  const isSample = isTracing || (board.get(Head.kind) === Kind.EXPLORE && board.get(Head.index) % repeatEvery === 0);
  return board.get(Head.checksLocking) !== 0 && isSample && isWhole(board) ? readTrace(board) : null;
}

/** L2, where that is checked. */
export function unguardedTouch(board: Board, names: readonly string[]): Violation | null {
  if (board.get(Head.checksLocking) === 0 || board.get(Head.unguardedActor) === -1) return null;
  const address = { space: board.get(Head.unguardedSpace) as Space, at: board.get(Head.unguardedAt) };
  return new Violation('L2', describeUnguarded(board, names), [address]);
}
