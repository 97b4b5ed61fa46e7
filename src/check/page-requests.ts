/** Where page requests are, for invariants: in a unit's queue, on a device's list, in a user's queue. As no point. */
import { NULL, type Ref } from '#hostmem/object';
import { requestsIn, type QueuedRequest } from '../hardware/page-requests.ts';
import { IommuUnit } from '../hardware/unit.ts';
import { FaultQueue, PageRequest } from '../kernel/fault-queue.ts';
import { PciDevice } from '../kernel/iommu-group.ts';
import { Kind } from '../kernel/objects.ts';
import { unitsOf } from './cached.ts';
import { bodies, contexts } from './records.ts';
import type { View } from './view.ts';

/** A request that a user's queue has. */
export interface OwnedRequest {
  readonly queue: Ref<'FaultQueue'>;
  readonly request: Ref<'PageRequest'>;
}

export function ownedRequests(view: View): OwnedRequest[] {
  const queues = contexts(view).flatMap((iommufd) => bodies<'FaultQueue'>(view, iommufd, Kind.FAULT_QUEUE));
  return queues.flatMap((queue) => [FaultQueue.queued, FaultQueue.awaiting].flatMap((list) => chain(view, list.peek(view.host.kernel, queue), PageRequest.next).map((request) => ({ queue, request }))));
}

/** Requests of devices that no queue has taken over. */
export function pendingRequests(view: View): Ref<'PageRequest'>[] {
  const devices = view.groups().flatMap((group) => view.members(group));
  return devices.flatMap((device) => chain(view, PciDevice.pending.peek(view.host.kernel, device), PageRequest.nextPending));
}

/** Requests that software has not seen. */
export function requestsInHardware(view: View): QueuedRequest[] {
  const kernel = view.host.kernel;
  const queues = unitsOf(view).map((unit) => IommuUnit.pageRequests.peek(kernel, unit)).filter((queue): queue is Ref<'PageRequests'> => queue !== NULL);
  return queues.flatMap((queue) => requestsIn(kernel, queue));
}

function chain(view: View, first: Ref<'PageRequest'>, next: typeof PageRequest.next): Ref<'PageRequest'>[] {
  const found: Ref<'PageRequest'>[] = [];
  for (let at = first; at !== NULL; at = next.peek(view.host.kernel, at)) found.push(at);
  return found;
}
