/**
 * G11, peers: what functions do to each other below the unit is the affair of their group's user, whatever address spaces they are in (SEEDS
 * 000); no function reaches another group so.
 */
import { peerReached } from '../../hardware/events.ts';
import { functionText, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';
import { addressText } from '../records.ts';

export default invariant<null>({
  id: 'G11',
  claim: 'a request that the unit never sees reaches the requester\'s own group: its user\'s choice; never another group',
  events: [peerReached],
  start: () => null,
  step(_state, event, view) {
    const [from, to] = [view.groupOf(ridOf(event)), view.groupOf(peerReached.get.peer(event))];
    if (from === to) return null;
    const peer = addressText(peerReached.get.peer(event));
    return breach(`${functionText(event)} of group ${from} reached the memory of function ${peer} of group ${to}, and no unit saw it`);
  },
});
