/**
 * Iterative context bounding (Musuvathi and Qadeer, PLDI 2007): all schedules without a preemption, then all with one, and so
 * on to the bound. A preemption is a switch away from an actor that could go on; where it waits, ends or has just started,
 * switching is free. So the first failure has the fewest preemptions there can be.
 *
 * `icb` is `icb2`. To find the schedules with c preemptions, those with fewer are run again and not counted: they are few.
 */
import { BlockWord, Head, NodeWord, startOfSchedule, type Board } from '../board.ts';
import { Accesses } from '../dependence.ts';
import { branch, clearStack, deeper, depthOf, firstFreeWord, lowest, maskOf, nodeWord, prefixOf, pushAlternatives, rewind, setNodeWord } from '../stack.ts';
import type { Choice, Exhaustive, StrategyFile } from '../strategy.ts';

/** Preemptions of this round, and of the schedule that runs; whether the round left something to a later one. */
const Word = { ROUND: firstFreeWord, PREEMPTIONS: firstFreeWord + 1, HAS_MORE: firstFreeWord + 2 } as const;
const defaultBound = 2;
const access = new Accesses();

class Icb implements Exhaustive {
  readonly bound: number;

  constructor(bound: number) {
    this.bound = bound;
  }

  begin(board: Board, index: number): void {
    if (index === 0) {
      clearStack(board);
      for (const word of Object.values(Word)) board.set(word, 0);
    }
    rewind(board);
    board.set(Word.PREEMPTIONS, 0);
    board.set(Head.redundant, board.get(Word.ROUND) === 0 ? 0 : 1);
  }

  pick(board: Board, choice: Choice): number {
    if (choice.count === 1) return choice.enabled[0]!;
    const enabled = maskOf(choice);
    if (hasJustStarted(board, choice.current) && isIn(enabled, choice.current)) return choice.current;
    const depth = deeper(board);
    if (depth < 0) return choice.byDefault;
    if (depth >= prefixOf(board)) push(board, depth, choice, enabled);
    const chosen = nodeWord(board, depth, NodeWord.chosen);
    if (isPreemption(board, depth, chosen)) spend(board);
    return chosen;
  }

  /** Costs nothing: all alternatives are tried within every bound. */
  choose(board: Board, count: number): number {
    const depth = deeper(board);
    if (depth < 0) return 0;
    if (depth >= prefixOf(board)) pushAlternatives(board, depth, count, 0);
    return nodeWord(board, depth, NodeWord.chosen);
  }

  proceed(board: Board): boolean {
    if (board.get(Head.overflowed) !== 0) return false;
    for (let depth = depthOf(board) - 1; depth >= 0; depth--) {
      const next = nextChoice(board, depth);
      if (next < 0) continue;
      branch(board, depth, next);
      return true;
    }
    if (board.get(Word.HAS_MORE) === 0 || board.get(Word.ROUND) === this.bound) return false;
    board.set(Word.ROUND, board.get(Word.ROUND) + 1);
    board.set(Word.HAS_MORE, 0);
    clearStack(board);
    return true;
  }
}

function push(board: Board, depth: number, choice: Choice, enabled: number): void {
  setNodeWord(board, depth, NodeWord.alternatives, 0);
  setNodeWord(board, depth, NodeWord.enabled, enabled);
  setNodeWord(board, depth, NodeWord.done, 0);
  setNodeWord(board, depth, NodeWord.chosen, choice.byDefault);
  setNodeWord(board, depth, NodeWord.current, choice.current);
  setNodeWord(board, depth, NodeWord.cost, board.get(Word.PREEMPTIONS));
}

function spend(board: Board): void {
  const spent = board.get(Word.PREEMPTIONS) + 1;
  board.set(Word.PREEMPTIONS, spent);
  if (spent === board.get(Word.ROUND)) board.set(Head.redundant, 0);
}

/** Who is tried next at a choice, within this round's preemptions; -1: nobody. */
function nextChoice(board: Board, depth: number): number {
  const done = nodeWord(board, depth, NodeWord.done) | (1 << nodeWord(board, depth, NodeWord.chosen));
  setNodeWord(board, depth, NodeWord.done, done);
  for (let rest = nodeWord(board, depth, NodeWord.enabled) & ~done; rest !== 0; rest &= rest - 1) {
    const actor = lowest(rest);
    if (!isPreemption(board, depth, actor) || nodeWord(board, depth, NodeWord.cost) < board.get(Word.ROUND)) return actor;
    board.set(Word.HAS_MORE, 1);
  }
  return -1;
}

function isPreemption(board: Board, depth: number, actor: number): boolean {
  const current = nodeWord(board, depth, NodeWord.current);
  return actor !== current && current !== startOfSchedule && isIn(nodeWord(board, depth, NodeWord.enabled), current);
}

const isIn = (mask: number, actor: number): boolean => actor !== startOfSchedule && (mask & (1 << actor)) !== 0;

/** Whoever was picked to start goes on to its first access, unless it has told something before: a start that touches nothing is no choice of its own. */
function hasJustStarted(board: Board, actor: number): boolean {
  if (actor >= board.actors || board.get(board.block(actor) + BlockWord.ops) !== 1) return false;
  return !access.turn(board, board.get(Head.traceLength) - 1) || !access.isInside;
}

const icb: StrategyFile = { name: 'icb', make: (parameter) => new Icb(parameter ?? defaultBound) };
export default icb;
