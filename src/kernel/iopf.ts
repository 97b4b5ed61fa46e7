/**
 * I/O page faults of the core (drivers/iommu/io-pgfault.c, the VT-d driver's prq.c): requests go from a unit's queue to who has the device attached, and
 * are drained when it leaves. PASIDs aside: requests without one alone come from hardware here.
 *
 * A request is on its device's list until its handler takes it over; who stops taking requests of a device answers what is on that list. Lock order:
 * `IommufdGroup.lock` -> `pageRequestLock` -> `PciDevice.faultLock`, and -> `FaultQueue.lock`.
 */
import { NULL, type Ref } from '#hostmem/object';
import { PciFunction } from '../hardware/function.ts';
import { IommuUnit } from '../hardware/unit.ts';
import { oldestRequest, PageAnswer, takeOldest, type QueuedRequest } from '../hardware/page-requests.ts';
import { appendRequest, createRequest, PageRequest } from './fault-queue.ts';
import { Hwpt } from './hwpt.ts';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import { deviceId, IommufdDevice } from './iommufd-device.ts';
import { KernelRoot, type Kernel } from './kernel.ts';

/** The queue of the unit before a function; `NULL` for none. */
export const queueOf = (kernel: Kernel, pciFunction: Ref<'PciFunction'>): Ref<'PageRequests'> => {
  const unit = PciFunction.unit.peek(kernel.memory, pciFunction);
  return unit === NULL ? NULL : IommuUnit.pageRequests.peek(kernel.memory, unit);
};

/** The thread of the interrupt (`prq_event_thread`): hands on all that is there. */
export function handOnRequests(kernel: Kernel, queue: Ref<'PageRequests'>): void {
  KernelRoot.pageRequestLock.acquire(kernel.memory, kernel.root);
  handOnUnderLock(kernel, queue);
  KernelRoot.pageRequestLock.release(kernel.memory, kernel.root);
}

function handOnUnderLock(kernel: Kernel, queue: Ref<'PageRequests'>): void {
  for (let asked = oldestRequest(kernel.memory, queue); asked !== null; asked = oldestRequest(kernel.memory, queue)) {
    takeOldest(kernel.memory, queue);
    const device = deviceOf(kernel, asked.rid);
    if (!report(kernel, device, asked)) kernel.driver.answerPage?.(PciDevice.function.peek(kernel.memory, device), asked.group, PageAnswer.INVALID);
  }
}

/** False when nobody takes it (`iommu_report_device_fault`). */
function report(kernel: Kernel, device: Ref<'PciDevice'>, { group, page, access, pasid }: QueuedRequest): boolean {
  const memory = kernel.memory;
  const hwpt = PciDevice.faultHwpt.load(memory, device);
  if (hwpt === NULL || pasid !== null) return false;
  const bound = PciDevice.faultDevice.peek(memory, device);
  const asked = { device: bound, deviceId: deviceId(kernel, bound), pasid, group, permissions: access, address: BigInt(page >>> 0) * 4096n };
  const request = createRequest(kernel, asked);
  if (request === NULL) return false;
  PageRequest.function.poke(memory, request, PciDevice.function.peek(memory, device));
  addPending(kernel, device, request);
  kernel.operations.iopf.deliver(kernel, device, Hwpt.faultQueue.peek(memory, hwpt), request);
  return true;
}

/** The handler of iommufd: from here on the request is the queue's. */
export function deliver(kernel: Kernel, device: Ref<'PciDevice'>, queue: Ref<'FaultQueue'>, request: Ref<'PageRequest'>): void {
  removePending(kernel, device, request);
  appendRequest(kernel, queue, request);
}

/**
 * A device's requests go to another HWPT, or with `NULL` to nobody: those in the hardware's queue go where they went before (Q8), and those that nobody
 * has taken over are answered. What its old HWPT's queue has is for the caller to answer. Under `IommufdGroup.lock`.
 */
export function switchRequests(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const pciDevice = IommufdDevice.device.peek(memory, device);
  const queue = queueOf(kernel, PciDevice.function.peek(memory, pciDevice));
  if (queue === NULL) return;
  const takes = hwpt !== NULL && Hwpt.faultQueue.peek(memory, hwpt) !== NULL;
  KernelRoot.pageRequestLock.acquire(memory, kernel.root);
  kernel.operations.iopf.drain(kernel, queue);
  PciDevice.faultDevice.poke(memory, pciDevice, takes ? device : NULL);
  PciDevice.faultHwpt.store(memory, pciDevice, takes ? hwpt : NULL);
  if (!takes) answerPending(kernel, pciDevice);
  KernelRoot.pageRequestLock.release(memory, kernel.root);
}

/** Q8: what is in the queue is handed on by who waits for that. */
export function drain(kernel: Kernel, queue: Ref<'PageRequests'>): void {
  handOnUnderLock(kernel, queue);
}

/** Nobody takes the device's requests any more (`iopf_queue_remove_device`). */
function answerPending(kernel: Kernel, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  PciDevice.faultLock.acquire(memory, device);
  let at: Ref<'PageRequest'> = PciDevice.pending.read(memory, device);
  while (at !== NULL) {
    const next = PageRequest.nextPending.peek(memory, at);
    answerRequest(kernel, at, PageAnswer.INVALID);
    at = next;
  }
  PciDevice.pending.write(memory, device, NULL);
  PciDevice.faultLock.release(memory, device);
}

/** The device gets its answer, and the record is gone. It is on no list that anybody looks at. */
export function answerRequest(kernel: Kernel, request: Ref<'PageRequest'>, code: number): void {
  const memory = kernel.memory;
  const pciFunction = PageRequest.function.peek(memory, request);
  if (pciFunction !== NULL) kernel.driver.answerPage?.(pciFunction, PageRequest.group.peek(memory, request), code);
  PageRequest.free(memory, request);
}

function addPending(kernel: Kernel, device: Ref<'PciDevice'>, request: Ref<'PageRequest'>): void {
  const memory = kernel.memory;
  PciDevice.faultLock.acquire(memory, device);
  PageRequest.nextPending.poke(memory, request, PciDevice.pending.read(memory, device));
  PciDevice.pending.write(memory, device, request);
  PciDevice.faultLock.release(memory, device);
}

function removePending(kernel: Kernel, device: Ref<'PciDevice'>, gone: Ref<'PageRequest'>): void {
  const memory = kernel.memory;
  PciDevice.faultLock.acquire(memory, device);
  const next = PageRequest.nextPending.peek(memory, gone);
  let at: Ref<'PageRequest'> = PciDevice.pending.read(memory, device);
  if (at === gone) PciDevice.pending.write(memory, device, next);
  else {
    while (PageRequest.nextPending.peek(memory, at) !== gone) at = PageRequest.nextPending.peek(memory, at);
    PageRequest.nextPending.poke(memory, at, next);
  }
  PciDevice.faultLock.release(memory, device);
}

function deviceOf(kernel: Kernel, rid: number): Ref<'PciDevice'> {
  const memory = kernel.memory;
  let group: Ref<'IommuGroup'> = KernelRoot.groups.peek(memory, kernel.root);
  for (; group !== NULL; group = IommuGroup.next.peek(memory, group)) {
    for (let at = IommuGroup.members.peek(memory, group); at !== NULL; at = PciDevice.nextInGroup.peek(memory, at)) if (PciDevice.address.peek(memory, at) === rid) return at;
  }
  throw new Error(`no device with requester id 0x${rid.toString(16)}`);
}
