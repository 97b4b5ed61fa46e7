/**
 * The page-request queue object (drivers/iommu/iommufd/eventq.c): an HWPT made with it delivers its devices' page requests there.
 *
 * A group of requests is queued, then read as a whole and given a cookie, then answered by the user; who leaves the HWPT answers
 * for its device what is left (F1: every group is answered exactly once). The descriptor holds the object and the context; the
 * object stays until it is destroyed.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { PageAnswer } from '../drivers/driver.ts';
import { refusesCopy } from './argument.ts';
import { RID_SLOT } from './change-pt.ts';
import { PageRequestQueued } from './events.ts';
import { allocated, fail } from './errno.ts';
import { FileKind } from './open-file.ts';
import type { Kernel } from './kernel.ts';
import { openObjectFile } from './object-file.ts';
import { PciDevice } from './iommu-group.ts';
import { answerRequest } from './iopf.ts';
import { abortObject, dropUser, IommufdObject, Kind, publishObject, putIommufd, reserveObject } from './objects.ts';

export const FaultQueue = object('FaultQueue', {
  header: ref('IommufdObject'),
  lock: mutex,
  /** Oldest first, as both lists. */
  queued: ref('PageRequest').under('lock'),
  awaiting: ref('PageRequest').under('lock'),
});

/**
 * A group of one page request. On one list at a time: its device's of what has no owner yet, or one of a queue's two.
 */
export const PageRequest = object('PageRequest', {
  /** Who asked; null for a request that a test of the kernel made up. */
  pciDevice: ref('PciDevice'),
  /** The list of its device (`iommu_fault_param.faults`). Under `PciDevice.faultLock`. */
  nextPending: ref('PageRequest'),
  device: ref('IommufdDevice'),
  deviceId: u32,
  pasid: u32,
  hasPasid: u32,
  /** Whose HWPT takes it: the PASID's, or `RID_SLOT`. */
  slot: u32,
  group: u32,
  permissions: u32,
  address: u64,
  /** While it awaits its answer. */
  cookie: u32,
  next: ref('PageRequest'),
});

export interface FaultQueueAlloc { flags: number; outFaultId: number; outFaultFd: number }

/** A page request as a device makes it; `permissions` 1 is read, 2 write, 4 execute, 8 privileged. */
export interface Request {
  readonly device: Ref<'IommufdDevice'>;
  readonly deviceId: number;
  /** Null: without a PASID. */
  readonly pasid: number | null;
  /** Whose HWPT takes it: the PASID's, or `RID_SLOT`. */
  readonly slot: number;
  readonly group: number;
  readonly permissions: number;
  readonly address: bigint;
}

const recordBytes = 40;
const responseBytes = 8;
const Flag = { PASID_VALID: 1, LAST: 2 } as const;
/** Answers: try again, or the address is invalid. */
const lastCode = 1;

/** IOMMU_FAULT_QUEUE_ALLOC: EOPNOTSUPP for flags, EFAULT, ENOMEM. */
export function faultQueueAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: FaultQueueAlloc): void {
  const memory = kernel.memory;
  if (arg.flags !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  const header = reserveObject(kernel, iommufd, Kind.FAULT_QUEUE);
  const queue = FaultQueue.tryCreate(memory);
  let fd: number;
  try {
    FaultQueue.header.poke(memory, allocated(queue), header);
    IommufdObject.body.poke(memory, header, queue);
    fd = openObjectFile(kernel, header, FileKind.FAULT_QUEUE, arg);
  } catch (error) {
    if (queue !== NULL) FaultQueue.free(memory, queue);
    abortObject(kernel, header);
    throw error;
  }
  arg.outFaultId = publishObject(kernel, header);
  arg.outFaultFd = fd;
}

/** A record of a device's request. `NULL` without memory: the driver answers that the address is invalid. */
export function createRequest(kernel: Kernel, { device, deviceId, pasid, slot, group, permissions, address }: Request): Ref<'PageRequest'> {
  const memory = kernel.memory;
  const request = PageRequest.tryCreate(memory);
  if (request === NULL) return NULL;
  PageRequest.device.poke(memory, request, device);
  PageRequest.deviceId.poke(memory, request, deviceId);
  PageRequest.pasid.poke(memory, request, pasid ?? 0);
  PageRequest.hasPasid.poke(memory, request, pasid === null ? 0 : 1);
  PageRequest.slot.poke(memory, request, slot);
  PageRequest.group.poke(memory, request, group);
  PageRequest.permissions.poke(memory, request, permissions);
  PageRequest.address.pokeBig(memory, request, address);
  return request;
}

/** Behind what is queued already. */
export function appendRequest(kernel: Kernel, queue: Ref<'FaultQueue'>, request: Ref<'PageRequest'>): void {
  FaultQueue.lock.acquire(kernel.memory, queue);
  append(kernel, queue, 'queued', request);
  tellQueued(kernel, request);
  FaultQueue.lock.release(kernel.memory, queue);
}

function tellQueued({ memory }: Kernel, request: Ref<'PageRequest'>): void {
  const asked = PageRequest.pciDevice.peek(memory, request);
  const rid = asked === NULL ? 0 : PciDevice.address.peek(memory, asked);
  PageRequestQueued.emit(memory, PageRequest.deviceId.peek(memory, request), PageRequest.group.peek(memory, request), rid);
}

/** A device asks for a page (`iommufd_fault_iopf_handler`). False without memory. */
export function queueRequest(kernel: Kernel, queue: Ref<'FaultQueue'>, asked: Request): boolean {
  const request = createRequest(kernel, asked);
  if (request !== NULL) appendRequest(kernel, queue, request);
  return request !== NULL;
}

type List = 'queued' | 'awaiting';

/** Under `lock`, as the next. */
function append(kernel: Kernel, queue: Ref<'FaultQueue'>, list: List, request: Ref<'PageRequest'>): void {
  const memory = kernel.memory;
  PageRequest.next.poke(memory, request, NULL);
  let last: Ref<'PageRequest'> = FaultQueue[list].read(memory, queue);
  if (last === NULL) {
    FaultQueue[list].write(memory, queue, request);
    return;
  }
  for (let next = PageRequest.next.peek(memory, last); next !== NULL; next = PageRequest.next.peek(memory, last)) last = next;
  PageRequest.next.poke(memory, last, request);
}

function takeOut(kernel: Kernel, queue: Ref<'FaultQueue'>, list: List, request: Ref<'PageRequest'>): void {
  const memory = kernel.memory;
  const next = PageRequest.next.peek(memory, request);
  let at = FaultQueue[list].read(memory, queue);
  if (at === request) FaultQueue[list].write(memory, queue, next);
  else {
    while (PageRequest.next.peek(memory, at) !== request) at = PageRequest.next.peek(memory, at);
    PageRequest.next.poke(memory, at, next);
  }
}

/** read(2) of `count` bytes: whole groups, which await their answers then. ESPIPE for half a record. */
export function readRequests(kernel: Kernel, queue: Ref<'FaultQueue'>, count: number): Uint8Array {
  const memory = kernel.memory;
  if (count % recordBytes !== 0) fail('ESPIPE', `${count} bytes are no whole number of records`);
  const bytes = new Uint8Array(count);
  let done = 0;
  FaultQueue.lock.acquire(memory, queue);
  let request: Ref<'PageRequest'> = FaultQueue.queued.read(memory, queue);
  for (; request !== NULL && done < count; request = FaultQueue.queued.read(memory, queue)) {
    if (refusesCopy(kernel)) {
      // The group stays at the head; what was read before it counts.
      FaultQueue.lock.release(memory, queue);
      return done > 0 ? bytes.subarray(0, done) : fail('EFAULT', 'the records cannot be written');
    }
    takeOut(kernel, queue, 'queued', request);
    PageRequest.cookie.poke(memory, request, freeCookie(kernel, queue));
    append(kernel, queue, 'awaiting', request);
    writeRecord(kernel, request, new DataView(bytes.buffer, done, recordBytes));
    done += recordBytes;
  }
  FaultQueue.lock.release(memory, queue);
  if (count === 0 && request !== NULL) fail('EINVAL', 'the first group does not fit');
  return bytes.subarray(0, done);
}

/** `struct iommu_hwpt_pgfault`. */
function writeRecord(kernel: Kernel, request: Ref<'PageRequest'>, record: DataView): void {
  const memory = kernel.memory;
  const hasPasid = PageRequest.hasPasid.peek(memory, request) !== 0;
  record.setUint32(0, Flag.LAST | (hasPasid ? Flag.PASID_VALID : 0), true);
  record.setUint32(4, PageRequest.deviceId.peek(memory, request), true);
  record.setUint32(8, PageRequest.pasid.peek(memory, request), true);
  record.setUint32(12, PageRequest.group.peek(memory, request), true);
  record.setUint32(16, PageRequest.permissions.peek(memory, request), true);
  record.setBigUint64(24, PageRequest.address.peekBig(memory, request), true);
  record.setUint32(36, PageRequest.cookie.peek(memory, request), true);
}

/** The lowest that no awaiting group has, from 1. */
function freeCookie(kernel: Kernel, queue: Ref<'FaultQueue'>): number {
  let cookie = 1;
  while (findByCookie(kernel, queue, cookie) !== NULL) cookie++;
  return cookie;
}

function findByCookie(kernel: Kernel, queue: Ref<'FaultQueue'>, cookie: number): Ref<'PageRequest'> {
  const memory = kernel.memory;
  let at: Ref<'PageRequest'> = FaultQueue.awaiting.read(memory, queue);
  while (at !== NULL && PageRequest.cookie.peek(memory, at) !== cookie) at = PageRequest.next.peek(memory, at);
  return at;
}

/** write(2) of answers, `{ cookie, code }` each; returns the bytes of those that were taken. ESPIPE, EINVAL when the first is not. */
export function writeResponses(kernel: Kernel, queue: Ref<'FaultQueue'>, bytes: Uint8Array): number {
  const memory = kernel.memory;
  if (bytes.length % responseBytes !== 0) fail('ESPIPE', `${bytes.length} bytes are no whole number of answers`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let done = 0;
  FaultQueue.lock.acquire(memory, queue);
  for (; done < bytes.length; done += responseBytes) {
    const request = view.getUint32(done + 4, true) > lastCode ? NULL : findByCookie(kernel, queue, view.getUint32(done, true));
    if (request === NULL) break;
    takeOut(kernel, queue, 'awaiting', request);
    answerRequest(kernel, request, view.getUint32(done + 4, true));
  }
  FaultQueue.lock.release(memory, queue);
  if (done === 0 && bytes.length > 0) fail('EINVAL', 'an unknown cookie or code');
  return done;
}

export function hasRequests(kernel: Kernel, queue: Ref<'FaultQueue'>): boolean {
  FaultQueue.lock.acquire(kernel.memory, queue);
  const first = FaultQueue.queued.read(kernel.memory, queue);
  FaultQueue.lock.release(kernel.memory, queue);
  return first !== NULL;
}

/** Answers INVALID to all that a device asked for through one of its slots, queued or read (`iommufd_auto_response_faults`): the slot leaves the HWPT. */
export function answerForDevice(kernel: Kernel, queue: Ref<'FaultQueue'>, device: Ref<'IommufdDevice'>, slot: number = RID_SLOT): void {
  FaultQueue.lock.acquire(kernel.memory, queue);
  answerList(kernel, queue, 'queued', device, slot);
  answerList(kernel, queue, 'awaiting', device, slot);
  FaultQueue.lock.release(kernel.memory, queue);
}

/** Of one device's slot, or of all with `NULL`. Under `lock`. */
function answerList(kernel: Kernel, queue: Ref<'FaultQueue'>, list: List, device: Ref<'IommufdDevice'>, slot: number = RID_SLOT): void {
  const memory = kernel.memory;
  let at: Ref<'PageRequest'> = FaultQueue[list].read(memory, queue);
  while (at !== NULL) {
    const next: Ref<'PageRequest'> = PageRequest.next.peek(memory, at);
    if (device === NULL || (PageRequest.device.peek(memory, at) === device && PageRequest.slot.peek(memory, at) === slot)) {
      takeOut(kernel, queue, list, at);
      answerRequest(kernel, at, PageAnswer.INVALID);
    }
    at = next;
  }
}

/** The last close of its descriptor. */
export function releaseFaultQueueFile(kernel: Kernel, queue: Ref<'FaultQueue'>): void {
  const header = FaultQueue.header.peek(kernel.memory, queue);
  const iommufd = IommufdObject.iommufd.peek(kernel.memory, header);
  dropUser(kernel, header);
  putIommufd(kernel, iommufd);
}

/** The destructor: no HWPT and no descriptor holds it; what is left is answered INVALID. */
export function destroyFaultQueue(kernel: Kernel, queue: Ref<'FaultQueue'>): void {
  FaultQueue.lock.acquire(kernel.memory, queue);
  answerList(kernel, queue, 'queued', NULL);
  answerList(kernel, queue, 'awaiting', NULL);
  FaultQueue.lock.release(kernel.memory, queue);
  FaultQueue.free(kernel.memory, queue);
}
