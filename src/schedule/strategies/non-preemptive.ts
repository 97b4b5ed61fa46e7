/**
 * Nobody is interrupted: an actor runs until it waits or ends. Schedule 0 of every strategy.
 */
import { withoutParameter, type Strategy } from '../strategy.ts';

export const nonPreemptive: Strategy = {
  begin() {},
  pick: (_board, choice) => choice.byDefault,
};

export default withoutParameter('non-preemptive', nonPreemptive);
