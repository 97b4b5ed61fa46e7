/**
 * Replay: the default policy, but for a list of forced switches and alternatives, which names each actor's operations in ascending order.
 *
 * A switch whose `next` cannot go on, or whose operation is never reached, is skipped: shrinking depends on it.
 */
import { BlockWord, firstAlternative, Head, startOfSchedule, type Board } from './board.ts';
import type { Choice, Strategy } from './strategy.ts';

export const forcedSwitches: Strategy = {
  begin(board) {
    for (let actor = 0; actor < board.actors + board.engines; actor++) waitFor(board, actor, indexOf(board, actor, 0));
  },

  pick(board, choice) {
    if (choice.current === startOfSchedule) return pickStart(board, choice);
    const block = board.block(choice.current);
    const count = board.get(block + BlockWord.ops);
    // Not `askAt`: a traced run is asked always.
    if (board.get(block + BlockWord.strategyA) !== count) return choice.byDefault;
    return pickForced(board, choice, board.get(block + BlockWord.strategyB), count);
  },

  choose: chooseForced,
};

function chooseForced(board: Board, count: number, actor: number): number {
  const block = board.block(actor);
  const ops = board.get(block + BlockWord.ops);
  if (board.get(block + BlockWord.strategyA) !== ops) return 0;
  let taken = 0;
  let index = board.get(block + BlockWord.strategyB);
  for (; index >= 0 && board.forcedCount(index) <= ops; index = indexOf(board, actor, index + 1)) {
    const one = board.forcedNext(index) - firstAlternative;
    if (taken === 0 && board.forcedCount(index) === ops && one > 0 && one < count) taken = one;
  }
  waitFor(board, actor, index);
  return taken;
}

/** The first applicable of the switches at this operation; moves on to the actor's next one. */
function pickForced(board: Board, choice: Choice, from: number, count: number): number {
  let next = -1;
  let index = from;
  while (index >= 0 && board.forcedCount(index) <= count) {
    if (next < 0 && board.forcedCount(index) === count && isEnabled(choice, board.forcedNext(index))) next = board.forcedNext(index);
    index = indexOf(board, choice.current, index + 1);
  }
  waitFor(board, choice.current, index);
  return next < 0 ? choice.byDefault : next;
}

function pickStart(board: Board, choice: Choice): number {
  const index = indexOf(board, startOfSchedule, 0);
  return index >= 0 && isEnabled(choice, board.forcedNext(index)) ? board.forcedNext(index) : choice.byDefault;
}

/** `strategyA` is the operation of the actor's next switch (0: none left), `strategyB` its place in the list. */
function waitFor(board: Board, actor: number, index: number): void {
  const block = board.block(actor);
  const count = index < 0 ? 0 : board.forcedCount(index);
  board.set(block + BlockWord.strategyA, count);
  board.set(block + BlockWord.strategyB, index);
  board.set(block + BlockWord.askAt, count);
}

function indexOf(board: Board, actor: number, from: number): number {
  const count = board.get(Head.forcedCount);
  for (let index = from; index < count; index++) if (board.forcedActor(index) === actor) return index;
  return -1;
}

function isEnabled(choice: Choice, actor: number): boolean {
  for (let i = 0; i < choice.count; i++) if (choice.enabled[i] === actor) return true;
  return false;
}
