/**
 * The hardware queue (`iommufd_hw_queue_alloc_ioctl`): a stretch of guest memory that a vIOMMU's hardware reads by itself. Its pages stay
 * pinned and the mapping locked until it is destroyed; queues of a vIOMMU come in ascending order of index and go in descending.
 */
import { hpaOf, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { object, ref, u32 } from '#hostmem/struct';
import { refusesAnswer } from './argument.ts';
import { allocated, fail } from './errno.ts';
import { Hwpt } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { Area, areaEnd, areaIova } from './iopt-area.ts';
import type { Kernel } from './kernel.ts';
import { abortObject, addUser, dropUser, dropUserAndDestroy, IommufdObject, Kind, publishObject, reserveObject, type ObjectRef } from './objects.ts';
import { isDmabuf } from './page-source.ts';
import { addFill, dropFill, Pages, pinnedFrame } from './pages.ts';
import { high, low, PAGE, U64_MAX } from './u64.ts';
import { getViommu, Viommu } from './viommu.ts';

export const HwQueue = object('HwQueue', {
  header: ref('IommufdObject'),
  viommu: ref('Viommu'),
  index: u32,
  /** The object that pins for it; nobody can destroy it but the queue. */
  access: ref('IommufdObject'),
  area: ref('Area'),
  /** Which of the area's pages. */
  firstPage: u32,
  pageCount: u32,
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

/** IOMMU_HW_QUEUE_ALLOC: EOPNOTSUPP, EINVAL, EOVERFLOW, ENOENT, EPERM, EFAULT for memory in several pieces, ENOMEM, and what the driver says. */
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

/** Pins the memory under an object of its own and locks the mapping; returns where it is in RAM. */
function pin(kernel: Kernel, iommufd: Ref<'Iommufd'>, queue: Ref<'HwQueue'>, arg: HwQueueAlloc): number {
  const memory = kernel.memory;
  const access = reserveObject(kernel, iommufd, Kind.HW_QUEUE_ACCESS);
  const ioas = ioasOf(kernel, queue);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const hpa = pinArea(kernel, ioas, queue, arg);
    const area = HwQueue.area.peek(memory, queue);
    Area.locks.write(memory, area, Area.locks.read(memory, area) + 1);
    HwQueue.access.poke(memory, queue, access);
    addUser(kernel, access);
    publishObject(kernel, access);
    return hpa;
  } catch (error) {
    abortObject(kernel, access);
    throw error;
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
  }
}

/** Under `iovaRwsem`. */
function pinArea(kernel: Kernel, ioas: Ref<'Ioas'>, queue: Ref<'HwQueue'>, { nestingParentIova: iova, length }: HwQueueAlloc): number {
  const memory = kernel.memory;
  const node = Ioas.areas.first(memory, ioas, high(iova), low(iova), high(iova), low(iova));
  const area = node === NULL ? NULL : (Ioas.areas.value(memory, node) as Ref<'Area'>);
  const pages = area === NULL ? NULL : Area.pages.read(memory, area);
  if (area === NULL || pages === NULL || areaEnd(kernel, area) < iova + length - 1n) fail('ENOENT', 'the range is not mapped by one mapping');
  if ((Area.permissions.peek(memory, area) & Access.READ) === 0) fail('EPERM', 'the mapping is not readable');
  if (isDmabuf(kernel, pages)) fail('EINVAL', 'a queue does not lie in a dma-buf');
  const byte = iova - areaIova(kernel, area) + BigInt(Area.pageOffset.peek(memory, area));
  const first = Area.firstPage.peek(memory, area) + Number(byte / PAGE);
  const count = Number((byte % PAGE + length + PAGE - 1n) / PAGE);
  Pages.mutex.acquire(memory, pages);
  try {
    addFill(kernel, pages, first, count);
    if (!isContiguous(kernel, pages, first, count)) {
      dropFill(kernel, pages, first, count);
      fail('EFAULT', 'the memory lies in several pieces');
    }
    HwQueue.area.poke(memory, queue, area);
    HwQueue.firstPage.poke(memory, queue, first);
    HwQueue.pageCount.poke(memory, queue, count);
    return hpaOf(pinnedFrame(kernel, pages, first)) + Number(byte % PAGE);
  } finally {
    Pages.mutex.release(memory, pages);
  }
}

function isContiguous(kernel: Kernel, pages: Ref<'Pages'>, first: number, count: number): boolean {
  let frame: Frame = pinnedFrame(kernel, pages, first);
  for (let i = 1; i < count; i++) {
    const next = pinnedFrame(kernel, pages, first + i);
    if (next !== frame + 1) return false;
    frame = next;
  }
  return true;
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

/** Undoes `pin`. */
function unpin(kernel: Kernel, queue: Ref<'HwQueue'>): void {
  const memory = kernel.memory;
  const ioas = ioasOf(kernel, queue);
  const area = HwQueue.area.peek(memory, queue);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  const pages = Area.pages.read(memory, area);
  Area.locks.write(memory, area, Area.locks.read(memory, area) - 1);
  Pages.mutex.acquire(memory, pages);
  dropFill(kernel, pages, HwQueue.firstPage.peek(memory, queue), HwQueue.pageCount.peek(memory, queue));
  Pages.mutex.release(memory, pages);
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  dropUserAndDestroy(kernel, HwQueue.access.peek(memory, queue));
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
