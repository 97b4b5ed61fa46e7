/** F1, exactly one answer: each group of page requests is answered once, and none is lost. */
import { NULL } from '#hostmem/object';
import { pageAnswered, pageRequested } from '../../hardware/events.ts';
import { PageRequest } from '../../kernel/fault-queue.ts';
import { PciDevice } from '../../kernel/iommu-group.ts';
import { breach, invariant } from '../invariant.ts';
import { ownedRequests, pendingRequests, requestsInHardware } from '../page-requests.ts';

/** Groups that wait for their answer, by `<requester id>.<group>`. */
type Waiting = Set<string>;

export default invariant<Waiting>({
  id: 'F1',
  claim: 'each group of page requests gets exactly one answer: none two, and one that has none is still somewhere to be answered',
  events: [pageRequested, pageAnswered],
  start: (view) => new Set(requestsInHardware(view).map(({ rid, group }) => `${rid}.${group}`)),
  step(waiting, event) {
    if (event.kind === pageRequested.kind) {
      waiting.add(`${pageRequested.get.function(event)}.${pageRequested.get.group(event)}`);
      return null;
    }
    const [rid, group] = [pageAnswered.get.function(event), pageAnswered.get.group(event)];
    return waiting.delete(`${rid}.${group}`) ? null : breach(`group ${group} of requester 0x${rid.toString(16)} is answered, which it was already`);
  },
  inspect(waiting, view, atRest) {
    if (!atRest || waiting.size === 0) return null;
    const kernel = view.host.kernel;
    const records = [...ownedRequests(view).map(({ request }) => request), ...pendingRequests(view)].filter((one) => PageRequest.pciDevice.peek(kernel, one) !== NULL);
    const held = records.map((one) => `${PciDevice.address.peek(kernel, PageRequest.pciDevice.peek(kernel, one))}.${PageRequest.group.peek(kernel, one)}`);
    const known = new Set([...requestsInHardware(view).map(({ rid, group }) => `${rid}.${group}`), ...held]);
    const lost = [...waiting].find((one) => !known.has(one));
    return lost === undefined ? null : breach(`a device waits for the answer to ${lost} (requester, group), which nobody knows of any more`);
  },
});
