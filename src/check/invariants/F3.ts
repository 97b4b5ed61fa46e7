/** F3, no late delivery: when a device has left an HWPT, no queue but that of what it has now knows a request of it, and that one only what it asked for since. */
import { NULL } from '#hostmem/object';
import { pageAnswered, pageRequested } from '../../hardware/events.ts';
import { RID_SLOT } from '../../kernel/change-pt.ts';
import { PageRequestQueued, RequestsSwitched, VfioReturned } from '../../kernel/events.ts';
import { PageRequest } from '../../kernel/fault-queue.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { IommufdDevice } from '../../kernel/iommufd-device.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import { PasidAttachment } from '../../kernel/iommufd-pasid.ts';
import { breach, invariant } from '../invariant.ts';
import { ownedRequests, type OwnedRequest } from '../page-requests.ts';
import { pasidsAttached } from '../records.ts';
import type { View } from '../view.ts';

interface Asked {
  /** When each group was asked for, and with which PASID (-1: none), by `<requester id>.<group>`; those that nobody has queued yet. */
  readonly at: Map<string, { readonly stamp: number; readonly pasid: number }>;
  /** Since when a function's requests with a PASID are another handler's, by `<requester id>.<PASID>`. */
  readonly since: Map<string, number>;
}

export default invariant<Asked>({
  id: 'F3',
  claim: 'after a detach or replace has returned, no page request of the device, or with the PASID, is queued where that is not attached any more, nor one from before where it is now',
  events: [pageRequested, pageAnswered, RequestsSwitched, PageRequestQueued],
  start: () => ({ at: new Map(), since: new Map() }),
  step({ at, since }, event) {
    if (event.kind === pageRequested.kind) at.set(`${pageRequested.get.function(event)}.${pageRequested.get.group(event)}`, { stamp: event.stamp, pasid: pageRequested.get.pasid(event) });
    else if (event.kind === pageAnswered.kind) at.delete(`${pageAnswered.get.function(event)}.${pageAnswered.get.group(event)}`);
    else if (event.kind === RequestsSwitched.kind) since.set(`${RequestsSwitched.get.function(event)}.${RequestsSwitched.get.pasid(event)}`, RequestsSwitched.get.since(event));
    else {
      const [rid, group] = [PageRequestQueued.get.function(event), PageRequestQueued.get.group(event)];
      const asked = at.get(`${rid}.${group}`);
      at.delete(`${rid}.${group}`);
      if (asked !== undefined && asked.stamp < (since.get(`${rid}.${asked.pasid}`) ?? -1)) return breach(`page request ${group} of device ${PageRequestQueued.get.device(event)} goes to the queue of what the device was given after it had asked`);
    }
    return null;
  },
  inspectAfter: [VfioReturned],
  inspect(_state, view) {
    const late = ownedRequests(view).find((one) => isLate(view, one));
    if (late === undefined) return null;
    const memory = view.host.kernel;
    const name = `page request ${PageRequest.group.peek(memory, late.request)} of device ${PageRequest.deviceId.peek(memory, late.request)}`;
    return breach(`${name} is in the queue of an HWPT that the device is not attached to`);
  },
});

/** A group that is being moved is left alone. */
function isLate(view: View, { queue, request }: OwnedRequest): boolean {
  const memory = view.host.kernel;
  const group = IommufdDevice.group.peek(memory, PageRequest.device.peek(memory, request));
  if (IommufdGroup.lock.isHeld(memory, group)) return false;
  const slot = PageRequest.slot.peek(memory, request);
  const shares = pasidsAttached(view, group).filter((share) => PasidAttachment.pasid.peek(memory, share) === slot);
  const attached = slot === RID_SLOT ? [IommufdGroup.hwpt.peek(memory, group)] : shares.map((share) => PasidAttachment.hwpt.peek(memory, share));
  return !attached.some((hwpt) => hwpt !== NULL && Hwpt.faultQueue.peek(memory, hwpt) === queue);
}
