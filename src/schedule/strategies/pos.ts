/**
 * Partial order sampling (Yuan, Yang and Gu, CAV 2018): every pending operation has a random priority, the highest is
 * executed, and then it and all that depend on it draw again. No parameter, and no guess of how long a schedule is.
 */
import { BlockWord, Status, type Board } from '../board.ts';
import { conflict, effect, Effect, wordKey } from '../dependence.ts';
import { chooseRarely, withoutParameter, type Choice, type Strategy } from '../strategy.ts';

export const pos: Strategy = {
  begin(board) {
    for (let actor = 0; actor < board.actors + board.engines; actor++) draw(board, actor);
  },

  pick(board, choice) {
    let best = choice.enabled[0]!;
    for (let i = 1; i < choice.count; i++) {
      const other = choice.enabled[i]!;
      if (priority(board, other) > priority(board, best)) best = other;
    }
    redraw(board, choice, best);
    return best;
  },

  choose: chooseRarely,
};

/** For the one that goes on and for those whose next operation depends on its own. */
function redraw(board: Board, choice: Choice, chosen: number): void {
  const kind = pendingEffect(board, chosen);
  for (let i = 0; i < choice.count; i++) {
    const other = choice.enabled[i]!;
    if (other === chosen || (conflict(kind, pendingEffect(board, other)) && pendingWord(board, other) === pendingWord(board, chosen))) draw(board, other);
  }
}

/** Of whoever has not started nobody knows the operation; an engine's is its step. */
function pendingEffect(board: Board, actor: number): Effect {
  const block = board.block(actor);
  return board.get(block + BlockWord.status) === Status.RUNNABLE ? effect(board.get(block + BlockWord.op)) : Effect.NONE;
}

const pendingWord = (board: Board, actor: number): number =>
  wordKey(board.get(board.block(actor) + BlockWord.space), board.get(board.block(actor) + BlockWord.at));
const priority = (board: Board, actor: number): number => board.get(board.block(actor) + BlockWord.strategyA);
const draw = (board: Board, actor: number): void => board.set(board.block(actor) + BlockWord.strategyA, board.random() >>> 1);

export default withoutParameter('pos', pos);
