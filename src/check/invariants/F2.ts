/** F2, one owner: a page request is on one list, so that one alone answers it. */
import { PageRequestQueued } from '../../kernel/events.ts';
import { PageRequest } from '../../kernel/fault-queue.ts';
import { breach, invariant } from '../invariant.ts';
import { ownedRequests, pendingRequests } from '../page-requests.ts';

export default invariant<null>({
  id: 'F2',
  claim: "a page request is on exactly one list: its device's, of what nobody has taken over, or one of a user's queue",
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [PageRequestQueued],
  inspect(_state, view) {
    const pending = new Set(pendingRequests(view));
    const twice = ownedRequests(view).find(({ request }) => pending.has(request));
    if (twice === undefined) return null;
    const memory = view.host.kernel;
    const name = `page request ${PageRequest.group.peek(memory, twice.request)} of device ${PageRequest.deviceId.peek(memory, twice.request)}`;
    return breach(`${name} is in a user's queue and still on the list of its device`);
  },
});
