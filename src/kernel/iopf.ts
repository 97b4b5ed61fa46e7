/**
 * I/O page faults of the core (drivers/iommu/io-pgfault.c, the VT-d driver's prq.c): requests go from a unit's queue to who has the device attached, and
 * are drained when it leaves. A request with a PASID is for who has that PASID attached; what the RID has does not matter (VT-d has no tables of PASIDs that users keep).
 *
 * A request is on its device's list until its handler takes it over; who stops taking requests of a device answers what is on that list. Lock order:
 * `IommufdGroup.lock` -> `pageRequestLock` -> `PciDevice.faultLock`, and -> `FaultQueue.lock`.
 */
import { NULL, type Ref } from '#hostmem/object';
import { PageAnswer, type TakenRequest } from '../drivers/driver.ts';
import { RID_SLOT } from './change-pt.ts';
import { answerForDevice, appendRequest, createRequest, PageRequest } from './fault-queue.ts';
import { RequestsSwitched } from './events.ts';
import { Hwpt } from './hwpt.ts';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import { deviceId, IommufdDevice } from './iommufd-device.ts';
import { PasidAttachment } from './iommufd-pasid.ts';
import { KernelRoot, type Kernel } from './kernel.ts';

/** The thread of the interrupt (`prq_event_thread`) of the unit before a function: hands on what was there when it looked. */
export function handOnRequests(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  KernelRoot.pageRequestLock.acquire(kernel.memory, kernel.root);
  handOnUnderLock(kernel, pciFunction);
  KernelRoot.pageRequestLock.release(kernel.memory, kernel.root);
}

function handOnUnderLock(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const { driver } = kernel;
  // Read once: a device that asks faster than this takes would keep whoever waits for it for ever.
  const came = driver.pageRequestsSoFar!(pciFunction);
  for (let asked = driver.takePageRequest!(pciFunction, came); asked !== null; asked = driver.takePageRequest!(pciFunction, came)) {
    const device = deviceOf(kernel, asked.rid);
    if (!report(kernel, device, asked)) driver.answerPage!(PciDevice.function.peek(kernel.memory, device), asked.group, PageAnswer.INVALID, asked.pasid);
  }
}

/** False when nobody takes it (`iommu_report_device_fault`). */
function report(kernel: Kernel, device: Ref<'PciDevice'>, { group, page, access, pasid }: TakenRequest): boolean {
  const memory = kernel.memory;
  const share = pasid === null ? NULL : takingShare(kernel, device, pasid);
  if (pasid !== null && share === NULL) return false;
  const hwpt = pasid === null ? PciDevice.faultHwpt.load(memory, device) : PasidAttachment.faultHwpt.peek(memory, share);
  if (hwpt === NULL) return false;
  const bound = pasid === null ? PciDevice.faultDevice.peek(memory, device) : PasidAttachment.device.peek(memory, share);
  const slot = pasid ?? RID_SLOT;
  const asked = { device: bound, deviceId: deviceId(kernel, bound), pasid, slot, group, permissions: access, address: BigInt(page >>> 0) * 4096n };
  const request = createRequest(kernel, asked);
  if (request === NULL) return false;
  PageRequest.pciDevice.poke(memory, request, device);
  addPending(kernel, device, request);
  kernel.operations.iopf.deliver(kernel, device, Hwpt.faultQueue.peek(memory, hwpt), request);
  return true;
}

/** The share under which somebody takes a device's requests with a PASID, or null. Under `pageRequestLock`. */
function takingShare({ memory }: Kernel, device: Ref<'PciDevice'>, pasid: number): Ref<'PasidAttachment'> {
  let at: Ref<'PasidAttachment'> = PciDevice.takingPasids.peek(memory, device);
  while (at !== NULL && PasidAttachment.pasid.peek(memory, at) !== pasid) at = PasidAttachment.nextTaking.peek(memory, at);
  return at;
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
  const drainedAt = kernel.operations.iopf.drain(kernel, pciFunction, null);
  RequestsSwitched.emit(memory, PciDevice.address.peek(memory, pciDevice), drainedAt, -1);
  PciDevice.faultDevice.poke(memory, pciDevice, takes ? device : NULL);
  PciDevice.faultHwpt.store(memory, pciDevice, takes ? hwpt : NULL);
  if (!takes) answerPending(kernel, pciDevice, RID_SLOT);
  KernelRoot.pageRequestLock.release(memory, kernel.root);
}

/** The same of a PASID, by the device's share in its slot: from `old`, if it had one, to `hwpt`; and what is left in the old one's queue is answered. Under `IommufdGroup.lock`. */
export function movePasidRequests(kernel: Kernel, share: Ref<'PasidAttachment'>, old: Ref<'Hwpt'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const device = PasidAttachment.device.peek(memory, share);
  switchPasidRequests(kernel, share, IommufdDevice.device.peek(memory, device), hwpt);
  const queue = old === NULL ? NULL : Hwpt.faultQueue.peek(memory, old);
  if (queue !== NULL) answerForDevice(kernel, queue, device, PasidAttachment.pasid.peek(memory, share));
}

export function switchPasidRequests(kernel: Kernel, share: Ref<'PasidAttachment'>, device: Ref<'PciDevice'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const pciFunction = PciDevice.function.peek(memory, device);
  if (kernel.driver.takesPageRequests?.(pciFunction) !== true) return;
  const takes = hwpt !== NULL && Hwpt.faultQueue.peek(memory, hwpt) !== NULL;
  const pasid = PasidAttachment.pasid.peek(memory, share);
  KernelRoot.pageRequestLock.acquire(memory, kernel.root);
  const drainedAt = kernel.operations.iopf.drain(kernel, pciFunction, pasid);
  RequestsSwitched.emit(memory, PciDevice.address.peek(memory, device), drainedAt, pasid);
  if (PasidAttachment.faultHwpt.peek(memory, share) !== NULL) forgetShare(kernel, device, share);
  if (takes) rememberShare(kernel, device, share, hwpt);
  else answerPending(kernel, device, pasid);
  KernelRoot.pageRequestLock.release(memory, kernel.root);
}

function rememberShare({ memory }: Kernel, device: Ref<'PciDevice'>, share: Ref<'PasidAttachment'>, hwpt: Ref<'Hwpt'>): void {
  PasidAttachment.faultHwpt.poke(memory, share, hwpt);
  PasidAttachment.nextTaking.poke(memory, share, PciDevice.takingPasids.peek(memory, device));
  PciDevice.takingPasids.poke(memory, device, share);
}

function forgetShare({ memory }: Kernel, device: Ref<'PciDevice'>, share: Ref<'PasidAttachment'>): void {
  PasidAttachment.faultHwpt.poke(memory, share, NULL);
  const next = PasidAttachment.nextTaking.peek(memory, share);
  let at: Ref<'PasidAttachment'> = PciDevice.takingPasids.peek(memory, device);
  if (at === share) PciDevice.takingPasids.poke(memory, device, next);
  else {
    while (PasidAttachment.nextTaking.peek(memory, at) !== share) at = PasidAttachment.nextTaking.peek(memory, at);
    PasidAttachment.nextTaking.poke(memory, at, next);
  }
}

/**
 * Q8: what is in the queue is handed on by who waits for that, then what hardware had on its way (`intel_iommu_drain_pasid_prq`). Returns a stamp, 0 without a history: all that the
 * function had asked for by then, with the PASID or (null) without, is handed on.
 */
export function drain(kernel: Kernel, pciFunction: Ref<'PciFunction'>, pasid: number | null): number {
  for (;;) {
    handOnUnderLock(kernel, pciFunction);
    const stamp = kernel.memory.history === null ? 0 : kernel.memory.history.stamp();
    const wasRoom = kernel.driver.drainPageRequests!(pciFunction, pasid);
    handOnUnderLock(kernel, pciFunction);
    if (wasRoom) return stamp;
  }
}

/** Nobody takes the requests of a device's slot any more (`iopf_queue_remove_device`). */
function answerPending(kernel: Kernel, device: Ref<'PciDevice'>, slot: number): void {
  const memory = kernel.memory;
  PciDevice.faultLock.acquire(memory, device);
  let at: Ref<'PageRequest'> = PciDevice.pending.read(memory, device);
  PciDevice.pending.write(memory, device, NULL);
  while (at !== NULL) {
    const next = PageRequest.nextPending.peek(memory, at);
    if (PageRequest.slot.peek(memory, at) === slot) answerRequest(kernel, at, PageAnswer.INVALID);
    else {
      PageRequest.nextPending.poke(memory, at, PciDevice.pending.read(memory, device));
      PciDevice.pending.write(memory, device, at);
    }
    at = next;
  }
  PciDevice.faultLock.release(memory, device);
}

/** The device gets its answer, and the record is gone. It is on no list that anybody looks at. */
export function answerRequest(kernel: Kernel, request: Ref<'PageRequest'>, code: number): void {
  const memory = kernel.memory;
  const device = PageRequest.pciDevice.peek(memory, request);
  const pasid = PageRequest.hasPasid.peek(memory, request) === 0 ? null : PageRequest.pasid.peek(memory, request);
  if (device !== NULL) kernel.driver.answerPage!(PciDevice.function.peek(memory, device), PageRequest.group.peek(memory, request), code, pasid);
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
