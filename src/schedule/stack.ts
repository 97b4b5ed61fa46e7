/**
 * The choices of a schedule as a depth-first search keeps them, on the board: who could go on, who has been tried, who need
 * not be. A strategy follows the stack up to its `prefix` and decides anew from there.
 */
import { Head, NodeWord, startOfSchedule, type Board } from './board.ts';
import type { Choice } from './strategy.ts';

const Word = { DEPTH: Head.strategyWords, PREFIX: Head.strategyWords + 1 } as const;
/** The first of the strategy's words that the stack leaves to others. */
export const firstFreeWord = Head.strategyWords + 2;

export const depthOf = (board: Board): number => board.get(Word.DEPTH);
/** How many choices the next schedule, or the one that runs, takes over from the one before. */
export const prefixOf = (board: Board): number => board.get(Word.PREFIX);

export const nodeWord = (board: Board, depth: number, word: number): number => board.get(board.nodeAt(depth) + word);
export const setNodeWord = (board: Board, depth: number, word: number, value: number): void => board.set(board.nodeAt(depth) + word, value);

/** A new search: nothing is tried yet. */
export function clearStack(board: Board): void {
  board.set(Word.PREFIX, 0);
}

/** A schedule begins. */
export function rewind(board: Board): void {
  board.set(Word.DEPTH, 0);
}

/** The next schedule differs from this one in the choice at `depth`. */
export function branch(board: Board, depth: number, chosen: number): void {
  setNodeWord(board, depth, NodeWord.chosen, chosen);
  board.set(Word.PREFIX, depth + 1);
}

/** Goes one choice deeper and returns which it is, or -1 where the stack is full: not all schedules can be tried then. */
export function deeper(board: Board): number {
  const depth = depthOf(board);
  if (depth === board.get(Head.stackCapacity)) {
    board.set(Head.overflowed, 1);
    return -1;
  }
  board.set(Word.DEPTH, depth + 1);
  return depth;
}

/** A choice between alternatives, all of which are to be tried, the usual one first. `sleep` is kept for the choices that come behind it. */
export function pushAlternatives(board: Board, depth: number, count: number, sleep: number): void {
  const all = 2 ** count - 1;
  setNodeWord(board, depth, NodeWord.alternatives, count);
  setNodeWord(board, depth, NodeWord.enabled, all);
  setNodeWord(board, depth, NodeWord.backtrack, all);
  setNodeWord(board, depth, NodeWord.done, 0);
  setNodeWord(board, depth, NodeWord.sleep, sleep);
  setNodeWord(board, depth, NodeWord.chosen, 0);
  // Nobody is preempted by it.
  setNodeWord(board, depth, NodeWord.current, startOfSchedule);
  setNodeWord(board, depth, NodeWord.cost, 0);
}

export const isAlternatives = (board: Board, depth: number): boolean => nodeWord(board, depth, NodeWord.alternatives) !== 0;

/** Those who can go on, as a mask. */
export function maskOf(choice: Choice): number {
  let mask = 0;
  for (let i = 0; i < choice.count; i++) mask |= 1 << choice.enabled[i]!;
  return mask;
}

/** The lowest actor of a mask that is not empty. */
export const lowest = (mask: number): number => 31 - Math.clz32(mask & -mask);
