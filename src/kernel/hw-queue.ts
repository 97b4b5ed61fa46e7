/**
 * The hardware queue (`iommufd_hw_queue_alloc_ioctl`): a stretch of guest memory that a vIOMMU's hardware reads by itself. An internal access
 * keeps its pages pinned and their mappings locked until it is destroyed; queues of a vIOMMU come in ascending order of index and go in
 * descending.
 */
import { hpaOf, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { attachInternalAccess, createInternalAccess, removeInternalAccess } from './access.ts';
import { unpinThroughAccess } from './access-pin.ts';
import { refusesAnswer } from './argument.ts';
import { allocated, fail } from './errno.ts';
import { Hwpt } from './hwpt.ts';
import type { Kernel } from './kernel.ts';
import { abortObject, addUser, dropUser, IommufdObject, Kind, publishObject, reserveObject, type ObjectRef } from './objects.ts';
import { PAGE, U64_MAX } from './u64.ts';
import { getViommu, Viommu } from './viommu.ts';

export const HwQueue = object('HwQueue', {
  header: ref('IommufdObject'),
  viommu: ref('Viommu'),
  index: u32,
  /** What pins for it; nobody can destroy it but the queue. */
  access: ref('Access'),
  /** The whole pages that it lies in, at their iova in the nest parent's IOAS. */
  pinnedIova: u64,
  pinnedBytes: u64,
  /** The queue before it, which cannot go before this one. */
  before: ref('HwQueue'),
  next: ref('HwQueue').under('viommu.hwQueuesLock'),
});

export interface HwQueueAlloc {
  flags: number;
  viommuId: number;
  type: number;
  index: number;
  nestingParentIova: bigint;
  length: bigint;
  outHwQueueId: number;
}

/**
 * IOMMU_HW_QUEUE_ALLOC: EOPNOTSUPP, EINVAL, EOVERFLOW, ENOENT, ERANGE, ENOMEM, EADDRINUSE for mappings that are not of whole pages, EPERM,
 * EFAULT for memory in several pieces, and what the driver says.
 */
export function hwQueueAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: HwQueueAlloc): void {
  const memory = kernel.memory;
  if (arg.flags !== 0 || arg.type === 0) fail('EOPNOTSUPP', 'unknown flags, or no type');
  if (arg.length === 0n) fail('EINVAL', 'length is 0');
  if (arg.nestingParentIova + arg.length - 1n > U64_MAX) fail('EOVERFLOW', 'nesting_parent_iova + length wraps');
  const viommu = getViommu(kernel, iommufd, arg.viommuId);
  const known = kernel.driver.hasHwQueue?.(Viommu.driverData.peek(memory, viommu), arg.type) === true;
  if (!known) fail('EOPNOTSUPP', `the vIOMMU has no hardware queues of type ${arg.type}`);
  const header = reserveObject(kernel, iommufd, Kind.HW_QUEUE);
  try {
    createQueue(kernel, iommufd, viommu, header, arg);
  } catch (error) {
    abortObject(kernel, header);
    throw error;
  }
  arg.outHwQueueId = publishObject(kernel, header);
}

function createQueue(kernel: Kernel, iommufd: Ref<'Iommufd'>, viommu: Ref<'Viommu'>, header: ObjectRef, arg: HwQueueAlloc): void {
  const memory = kernel.memory;
  const queue = allocated(HwQueue.tryCreate(memory));
  try {
    HwQueue.header.poke(memory, queue, header);
    HwQueue.viommu.poke(memory, queue, viommu);
    HwQueue.index.poke(memory, queue, arg.index);
    const hpa = pin(kernel, iommufd, queue, arg);
    try {
      startQueue(kernel, queue, hpa, arg);
    } catch (error) {
      unpin(kernel, queue);
      throw error;
    }
  } catch (error) {
    HwQueue.free(memory, queue);
    throw error;
  }
  IommufdObject.body.poke(memory, header, queue);
  addUser(kernel, Viommu.header.peek(memory, viommu));
}

/** The most pages that Linux lists in one allocation: their pointers take no more than 2^31 - 1 bytes (`kvmalloc`). */
const mostPages = 0x7fffffffn / 8n;

/** Pins the memory through an access of its own; returns where it is in RAM (`iommufd_hw_queue_alloc_phys`). */
function pin(kernel: Kernel, iommufd: Ref<'Iommufd'>, queue: Ref<'HwQueue'>, { nestingParentIova, length }: HwQueueAlloc): number {
  const offset = nestingParentIova % PAGE;
  if (offset + length + PAGE - 1n > U64_MAX) fail('ERANGE', 'length, in whole pages, wraps');
  const pages = (offset + length + PAGE - 1n) / PAGE;
  if (pages > mostPages) fail('ENOMEM', `${pages} pages are more than one list names`);
  HwQueue.pinnedIova.pokeBig(kernel.memory, queue, nestingParentIova - offset);
  HwQueue.pinnedBytes.pokeBig(kernel.memory, queue, pages * PAGE);
  const access = createInternalAccess(kernel, iommufd);
  HwQueue.access.poke(kernel.memory, queue, access);
  try {
    attachInternalAccess(kernel, access, ioasOf(kernel, queue));
    return pinContiguous(kernel, access, nestingParentIova - offset, pages * PAGE) + Number(offset);
  } catch (error) {
    removeInternalAccess(kernel, access);
    throw error;
  }
}

/** Pins whole pages; returns where the first is in RAM. As a pin, and EFAULT when the frames do not follow each other. */
function pinContiguous(kernel: Kernel, access: Ref<'Access'>, iova: bigint, bytes: bigint): number {
  const frames = kernel.operations.access.pin(kernel, access, iova, bytes, { write: false });
  const first = frames[0]!;
  if (!frames.every((frame: Frame, index) => frame === first + index)) {
    unpinThroughAccess(kernel, access, iova, bytes);
    fail('EFAULT', 'the memory lies in several pieces');
  }
  return hpaOf(first);
}

/** The driver takes it, and it joins the list of the vIOMMU. */
function startQueue(kernel: Kernel, queue: Ref<'HwQueue'>, hpa: number, arg: HwQueueAlloc): void {
  const memory = kernel.memory;
  const viommu = HwQueue.viommu.peek(memory, queue);
  Viommu.hwQueuesLock.acquire(memory, viommu);
  try {
    if (findQueue(kernel, viommu, arg.index) !== NULL) fail('EEXIST', `there is a queue ${arg.index}`);
    const problem = kernel.driver.hwQueueInit?.(Viommu.driverData.peek(memory, viommu), arg.index, hpa, arg.length) ?? 'EOPNOTSUPP';
    if (problem !== 0) fail(problem, 'the driver refuses the queue');
    if (refusesAnswer(kernel, arg)) {
      kernel.driver.hwQueueDestroy?.(Viommu.driverData.peek(memory, viommu), arg.index);
      fail('EFAULT', 'the argument cannot be written');
    }
    const before = findQueue(kernel, viommu, arg.index - 1);
    HwQueue.before.poke(memory, queue, before);
    if (before !== NULL) addUser(kernel, HwQueue.header.peek(memory, before));
    HwQueue.next.write(memory, queue, Viommu.hwQueues.read(memory, viommu));
    Viommu.hwQueues.write(memory, viommu, queue);
  } finally {
    Viommu.hwQueuesLock.release(memory, viommu);
  }
}

/** Under `hwQueuesLock`. */
function findQueue(kernel: Kernel, viommu: Ref<'Viommu'>, index: number): Ref<'HwQueue'> {
  const memory = kernel.memory;
  let at: Ref<'HwQueue'> = Viommu.hwQueues.read(memory, viommu);
  while (at !== NULL && HwQueue.index.peek(memory, at) !== index) at = HwQueue.next.read(memory, at);
  return at;
}

/** Undoes `pin` (`iommufd_hw_queue_destroy_access`). */
function unpin(kernel: Kernel, queue: Ref<'HwQueue'>): void {
  const memory = kernel.memory;
  const access = HwQueue.access.peek(memory, queue);
  unpinThroughAccess(kernel, access, HwQueue.pinnedIova.peekBig(memory, queue), HwQueue.pinnedBytes.peekBig(memory, queue));
  removeInternalAccess(kernel, access);
}

const ioasOf = (kernel: Kernel, queue: Ref<'HwQueue'>): Ref<'Ioas'> =>
  Hwpt.ioas.peek(kernel.memory, Viommu.hwpt.peek(kernel.memory, HwQueue.viommu.peek(kernel.memory, queue)));

/** The destructor (`iommufd_hw_queue_destroy`): the hardware stops first, then its memory is let go. */
export function destroyHwQueue(kernel: Kernel, queue: Ref<'HwQueue'>): void {
  const memory = kernel.memory;
  const viommu = HwQueue.viommu.peek(memory, queue);
  Viommu.hwQueuesLock.acquire(memory, viommu);
  kernel.driver.hwQueueDestroy?.(Viommu.driverData.peek(memory, viommu), HwQueue.index.peek(memory, queue));
  unlink(kernel, viommu, queue);
  Viommu.hwQueuesLock.release(memory, viommu);
  unpin(kernel, queue);
  const before = HwQueue.before.peek(memory, queue);
  if (before !== NULL) dropUser(kernel, HwQueue.header.peek(memory, before));
  dropUser(kernel, Viommu.header.peek(memory, viommu));
  HwQueue.free(memory, queue);
}

function unlink(kernel: Kernel, viommu: Ref<'Viommu'>, queue: Ref<'HwQueue'>): void {
  const memory = kernel.memory;
  const next = HwQueue.next.read(memory, queue);
  let at = Viommu.hwQueues.read(memory, viommu);
  if (at === queue) Viommu.hwQueues.write(memory, viommu, next);
  else {
    while (HwQueue.next.read(memory, at) !== queue) at = HwQueue.next.read(memory, at);
    HwQueue.next.write(memory, at, next);
  }
}
