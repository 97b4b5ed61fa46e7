/**
 * A bit of everything, for whoever does not know what kind of bug to expect.
 */
import { Head, type Board } from '../board.ts';
import { chooseRarely, withoutParameter, type Choice, type Strategy } from '../strategy.ts';
import { Pct } from './pct.ts';
import { pos } from './pos.ts';
import { random } from './random.ts';

const cycle: readonly Strategy[] = [random, new Pct(2), new Pct(3), pos, new Pct(4)];

/** Schedule 0 never comes here. */
const memberFor = (index: number): Strategy => cycle[(index - 1) % cycle.length]!;

export const portfolio: Strategy = {
  begin: (board: Board, index: number) => memberFor(index).begin(board, index),
  pick: (board: Board, choice: Choice) => memberFor(board.get(Head.index)).pick(board, choice),
  choose: chooseRarely,
};

export default withoutParameter('portfolio', portfolio);
