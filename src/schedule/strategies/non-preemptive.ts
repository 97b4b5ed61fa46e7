/**
 * Nobody is interrupted: an actor runs until it waits or ends. Schedule 0 of every strategy.
 */
import { BlockWord } from '../board.ts';
import { withoutParameter, type Strategy } from '../strategy.ts';

export const nonPreemptive: Strategy = {
  begin(board) {
    for (let actor = 0; actor < board.actors; actor++) board.set(board.block(actor) + BlockWord.askAt, 0);
  },
  pick: (_board, choice) => choice.byDefault,
  choose: () => 0,
};

export default withoutParameter('non-preemptive', nonPreemptive);
