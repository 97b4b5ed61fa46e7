/**
 * At every choice, each of those who can go on is as likely as the others.
 */
import { chooseRarely, withoutParameter, type Strategy } from '../strategy.ts';

export const random: Strategy = {
  begin() {},
  pick: (board, choice) => choice.enabled[board.randomBelow(choice.count)]!,
  choose: chooseRarely,
};

export default withoutParameter('random', random);
