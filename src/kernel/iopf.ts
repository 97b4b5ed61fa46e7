/**
 * I/O page faults of the core (drivers/iommu/io-pgfault.c, the VT-d driver's prq.c): requests go from a unit's queue to who has the device attached, and
 * are drained when it leaves. PASIDs aside: requests without one alone come from hardware here.
 *
 * A request is on its device's list until its handler takes it over; who stops taking requests of a device answers what is on that list. Lock order:
 * `IommufdGroup.lock` -> `pageRequestLock` -> `PciDevice.faultLock`, and -> `FaultQueue.lock`.
 */
import { NULL, type Ref } from '#hostmem/object';
import { PageAnswer, type TakenRequest } from '../drivers/driver.ts';
import { appendRequest, createRequest, PageRequest } from './fault-queue.ts';
import { RequestsSwitched } from './events.ts';
import { Hwpt } from './hwpt.ts';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import { deviceId, IommufdDevice } from './iommufd-device.ts';
import { KernelRoot, type Kernel } from './kernel.ts';

/** The thread of the interrupt (`prq_event_thread`) of the unit before a function: hands on all that is there. */
export function handOnRequests(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  KernelRoot.pageRequestLock.acquire(kernel.memory, kernel.root);
  handOnUnderLock(kernel, pciFunction);
  KernelRoot.pageRequestLock.release(kernel.memory, kernel.root);
}

function handOnUnderLock(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const { driver } = kernel;
  for (let asked = driver.takePageRequest!(pciFunction); asked !== null; asked = driver.takePageRequest!(pciFunction)) {
    const device = deviceOf(kernel, asked.rid);
    if (!report(kernel, device, asked)) driver.answerPage!(PciDevice.function.peek(kernel.memory, device), asked.group, PageAnswer.INVALID);
  }
}

/** False when nobody takes it (`iommu_report_device_fault`). */
function report(kernel: Kernel, device: Ref<'PciDevice'>, { group, page, access, pasid }: TakenRequest): boolean {
  const memory = kernel.memory;
  const hwpt = PciDevice.faultHwpt.load(memory, device);
  if (hwpt === NULL || pasid !== null) return false;
  const bound = PciDevice.faultDevice.peek(memory, device);
  const asked = { device: bound, deviceId: deviceId(kernel, bound), pasid, group, permissions: access, address: BigInt(page >>> 0) * 4096n };
  const request = createRequest(kernel, asked);
  if (request === NULL) return false;
  PageRequest.pciDevice.poke(memory, request, device);
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
  const pciFunction = PciDevice.function.peek(memory, pciDevice);
  if (kernel.driver.takesPageRequests?.(pciFunction) !== true) return;
  const takes = hwpt !== NULL && Hwpt.faultQueue.peek(memory, hwpt) !== NULL;
  KernelRoot.pageRequestLock.acquire(memory, kernel.root);
  const drainedAt = kernel.operations.iopf.drain(kernel, pciFunction);
  RequestsSwitched.emit(memory, PciDevice.address.peek(memory, pciDevice), drainedAt);
  PciDevice.faultDevice.poke(memory, pciDevice, takes ? device : NULL);
  PciDevice.faultHwpt.store(memory, pciDevice, takes ? hwpt : NULL);
  if (!takes) answerPending(kernel, pciDevice);
  KernelRoot.pageRequestLock.release(memory, kernel.root);
}

/** Q8: what is in the queue is handed on by who waits for that. Returns a stamp at which all was that had come by then. */
export function drain(kernel: Kernel, pciFunction: Ref<'PciFunction'>): number {
  for (;;) {
    handOnUnderLock(kernel, pciFunction);
    const stamp = kernel.driver.noPageRequestsAt!(pciFunction);
    if (stamp >= 0) return stamp;
  }
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
  const device = PageRequest.pciDevice.peek(memory, request);
  if (device !== NULL) kernel.driver.answerPage!(PciDevice.function.peek(memory, device), PageRequest.group.peek(memory, request), code);
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
