/**
 * The DMA API in the kernel of a confidential guest, for one device: what a driver gets for a page, and what it gives back (seed 003).
 *
 * As in Linux the way back is chosen anew: `dma_unmap` is told an address and looks at what the device is now, not at what it was when the
 * page was mapped. So a device whose interface goes into RUN between the two breaks every handle that means something else from then on.
 */
import { copy } from '#hostmem/atomics';
import { mutex, waitWord } from '#hostmem/locks';
import { hpaOf, pageBytes, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { object, ref, u32, words } from '#hostmem/struct';
import { privatePage, Request, RequestScope, splitAt, TBitPolicy } from '../drivers/tsm/link-tsm.ts';
import { fail } from './errno.ts';
import { BounceCopied, BounceFilled, HandleMapped, HandleUnmapped } from './events.ts';
import { PciDevice } from './iommu-group.ts';
import type { Kernel } from './kernel.ts';
import { tsmOf } from './tsm.ts';
import { gpaOf, guestFrame } from './tvm.ts';

/** What an address for DMA goes through, and so for which requests it holds. */
export const Backend = {
  /** A shared bounce page by its guest address, around the vIOMMU: T = 0. */
  BOUNCE: 1,
  /** The page through the vIOMMU's trusted table: T = 1. */
  TRANSLATED: 2,
  /** Through the one table that both walk: a shared bounce page, or the page itself once the interface runs. */
  ONE_TABLE: 3,
  /** The shared and the private half of a split space: both hold for as long as they are mapped. */
  SHARED_HALF: 4,
  PRIVATE_HALF: 5,
} as const;
export type Backend = (typeof Backend)[keyof typeof Backend];

/** CLOSED -> OPEN -> CLOSING by who probes and removes the driver, CLOSING -> CLOSED by who uses the queue. */
export const QueueState = { CLOSED: 0, OPEN: 1, CLOSING: 2 } as const;

const mostSlots = 8;
/** The guest's IOVAs, lowest first. */
const firstIova = 0x1000_0000;
const readWrite = Access.READ | Access.WRITE;

export const GuestDma = object('GuestDma', {
  device: ref('PciDevice'),
  tvm: ref('Tvm'),
  lock: mutex,
  /** Whether a driver is bound; without one nothing can be mapped. */
  bound: u32.under('lock'),
  /** Addresses that are mapped. */
  live: u32.under('lock'),
  /** A bit for each bounce page, and for each IOVA, that is free. */
  slots: u32.under('lock'),
  iovas: u32.under('lock'),
  /** The first bounce page and how many there are (8 at most); they are shared for the life of the guest. */
  firstSlot: u32,
  slotCount: u32,
  /** The page that each bounce page stands for. */
  bounced: words(mostSlots),
  /** Whether another thread uses the driver's second queue, a `QueueState`. */
  queue: waitWord,
});

/** The DMA API for a device of a guest, with a driver bound and nothing mapped. While a world is built. */
export function createGuestDma(kernel: Kernel, device: Ref<'PciDevice'>, tvm: Ref<'Tvm'>, bounce: readonly number[]): Ref<'GuestDma'> {
  const memory = kernel.memory;
  const dma = GuestDma.create(memory);
  GuestDma.device.poke(memory, dma, device);
  GuestDma.tvm.poke(memory, dma, tvm);
  GuestDma.bound.poke(memory, dma, 1);
  GuestDma.firstSlot.poke(memory, dma, bounce[0] ?? 0);
  GuestDma.slotCount.poke(memory, dma, bounce.length);
  GuestDma.slots.poke(memory, dma, (1 << bounce.length) - 1);
  GuestDma.iovas.poke(memory, dma, -1);
  return dma;
}

/** Maps a page of the guest for a device, both ways. Returns the address for it. ENODEV without a driver, ENOSPC, ENOMEM. */
export function mapForDevice(kernel: Kernel, dma: Ref<'GuestDma'>, page: number): number {
  const memory = kernel.memory;
  GuestDma.lock.acquire(memory, dma);
  try {
    if (GuestDma.bound.read(memory, dma) === 0) fail('ENODEV', 'no driver is bound');
    const backend = backendNow(kernel, dma);
    const isPrivate = tsmOf(kernel).isRunning(functionOf(kernel, dma));
    const reached = isPrivate ? page : takeSlot(kernel, dma, page);
    const frame = guestFrame(kernel, GuestDma.tvm.peek(memory, dma), reached);
    const address = addressOrUndo(kernel, dma, backend, reached, frame, isPrivate);
    GuestDma.live.write(memory, dma, GuestDma.live.read(memory, dma) + 1);
    HandleMapped.emit(memory, PciDevice.address.peek(memory, GuestDma.device.peek(memory, dma)), address, frame, backend);
    return address;
  } finally {
    GuestDma.lock.release(memory, dma);
  }
}

/** Gives an address back, to what the device is now. EINVAL (a warning in Linux) when that knows nothing of it. */
export function unmapForDevice(kernel: Kernel, dma: Ref<'GuestDma'>, address: number): void {
  const memory = kernel.memory;
  GuestDma.lock.acquire(memory, dma);
  try {
    const backend = isSplit(kernel) ? (address >= splitAt ? Backend.SHARED_HALF : Backend.PRIVATE_HALF) : backendNow(kernel, dma);
    HandleUnmapped.emit(memory, PciDevice.address.peek(memory, GuestDma.device.peek(memory, dma)), address, backend);
    giveBack(kernel, dma, backend, address);
    GuestDma.live.write(memory, dma, GuestDma.live.read(memory, dma) - 1);
  } finally {
    GuestDma.lock.release(memory, dma);
  }
}

/**
 * Lets a device go to T = 1: lock, then start. EBUSY while the driver has addresses that would mean something else, or while the device may
 * still send; ENXIO, EIO as the TSM says.
 */
export function enterTrusted(kernel: Kernel, dma: Ref<'GuestDma'>): void {
  const memory = kernel.memory;
  GuestDma.lock.acquire(memory, dma);
  try {
    if (!kernel.operations.confidential.mayFlip(kernel, dma)) fail('EBUSY', 'the driver has live mappings');
    startTrusted(kernel, dma);
  } finally {
    GuestDma.lock.release(memory, dma);
  }
}

/** What `enterTrusted` does once it knows that it may: the report that counts is that of the locked interface. */
export function startTrusted(kernel: Kernel, dma: Ref<'GuestDma'>): void {
  if (tsmOf(kernel).isBusMaster(functionOf(kernel, dma))) fail('EBUSY', 'the device is bus master');
  const device = GuestDma.device.peek(kernel.memory, dma);
  kernel.operations.tsm.guestRequest(kernel, device, RequestScope.STATE_CHANGE, Request.LOCK);
  kernel.operations.tsm.guestRequest(kernel, device, RequestScope.INFO, Request.REPORT);
  kernel.operations.tsm.guestRequest(kernel, device, RequestScope.STATE_CHANGE, Request.START);
}

/** Back to T = 0. EBUSY while anything is mapped: what was private stays out of reach. */
export function leaveTrusted(kernel: Kernel, dma: Ref<'GuestDma'>): void {
  const memory = kernel.memory;
  GuestDma.lock.acquire(memory, dma);
  try {
    if (GuestDma.live.read(memory, dma) !== 0) fail('EBUSY', 'the driver has live mappings');
    kernel.operations.tsm.guestRequest(kernel, GuestDma.device.peek(memory, dma), RequestScope.STATE_CHANGE, Request.STOP);
  } finally {
    GuestDma.lock.release(memory, dma);
  }
}

/** V1's rule: a device with live mappings stays what it is. Under `GuestDma.lock`. */
export function hasNoMappings(kernel: Kernel, dma: Ref<'GuestDma'>): boolean {
  return GuestDma.live.read(kernel.memory, dma) === 0;
}

/** Binds or unbinds the device's driver, which has unmapped what it had. EBUSY while somebody still has something mapped. */
export function bindDriver(kernel: Kernel, dma: Ref<'GuestDma'>, bound: boolean): void {
  const memory = kernel.memory;
  GuestDma.lock.acquire(memory, dma);
  try {
    if (!bound && GuestDma.live.read(memory, dma) !== 0) fail('EBUSY', 'the driver has live mappings');
    GuestDma.bound.write(memory, dma, bound ? 1 : 0);
  } finally {
    GuestDma.lock.release(memory, dma);
  }
}

const isSplit = (kernel: Kernel): boolean => kernel.operations.confidential.policy() === TBitPolicy.SPLIT;

/** How a page is mapped for what the device is now. */
function backendNow(kernel: Kernel, dma: Ref<'GuestDma'>): Backend {
  const policy = kernel.operations.confidential.policy();
  const isRunning = tsmOf(kernel).isRunning(functionOf(kernel, dma));
  if (policy === TBitPolicy.SPLIT) return isRunning ? Backend.PRIVATE_HALF : Backend.SHARED_HALF;
  if (policy === TBitPolicy.BYPASS) return isRunning ? Backend.TRANSLATED : Backend.BOUNCE;
  return Backend.ONE_TABLE;
}

/** As `addressFor`; what fails leaves no bounce page behind. */
function addressOrUndo(kernel: Kernel, dma: Ref<'GuestDma'>, backend: Backend, page: number, frame: Frame, isPrivate: boolean): number {
  try {
    return addressFor(kernel, dma, backend, page, frame, isPrivate);
  } catch (error) {
    if (!isPrivate) returnSlot(kernel, dma, page);
    throw error;
  }
}

function addressFor(kernel: Kernel, dma: Ref<'GuestDma'>, backend: Backend, page: number, frame: Frame, isPrivate: boolean): number {
  if (backend === Backend.BOUNCE || backend === Backend.PRIVATE_HALF) return gpaOf(page);
  if (backend === Backend.SHARED_HALF) return splitAt + gpaOf(page);
  const free = GuestDma.iovas.read(kernel.memory, dma);
  if (free === 0) fail('ENOSPC', 'the guest has no free iova');
  const iova = 31 - Math.clz32(free & -free);
  tsmOf(kernel).map(functionOf(kernel, dma), firstIova + gpaOf(iova), frame, isPrivate ? readWrite | privatePage : readWrite);
  GuestDma.iovas.write(kernel.memory, dma, free & ~(1 << iova));
  return firstIova + gpaOf(iova);
}

function giveBack(kernel: Kernel, dma: Ref<'GuestDma'>, backend: Backend, address: number): void {
  if (backend === Backend.PRIVATE_HALF) return;
  if (backend === Backend.BOUNCE || backend === Backend.SHARED_HALF) {
    const page = (address % splitAt) / pageBytes;
    if (!isSlot(kernel, dma, page)) fail('EINVAL', 'the address is no bounce page');
    returnSlot(kernel, dma, page);
    return;
  }
  const frame = tsmOf(kernel).unmap(functionOf(kernel, dma), address);
  if (frame === 0) fail('EINVAL', 'nothing is mapped at the iova');
  const iovas = GuestDma.iovas.read(kernel.memory, dma);
  GuestDma.iovas.write(kernel.memory, dma, iovas | (1 << ((address - firstIova) / pageBytes)));
  for (let slot = 0; slot < GuestDma.slotCount.peek(kernel.memory, dma); slot++) {
    const page = GuestDma.firstSlot.peek(kernel.memory, dma) + slot;
    if (isSlot(kernel, dma, page) && guestFrame(kernel, GuestDma.tvm.peek(kernel.memory, dma), page) === frame) returnSlot(kernel, dma, page);
  }
}

/** A bounce page for a page. */
function takeSlot(kernel: Kernel, dma: Ref<'GuestDma'>, page: number): number {
  const free = GuestDma.slots.read(kernel.memory, dma);
  if (free === 0) fail('ENOSPC', 'no bounce page is free');
  const slot = 31 - Math.clz32(free & -free);
  GuestDma.slots.write(kernel.memory, dma, free & ~(1 << slot));
  GuestDma.bounced.set(kernel.memory, dma, slot, page);
  const bounce = GuestDma.firstSlot.peek(kernel.memory, dma) + slot;
  kernel.operations.confidential.fillBounce(kernel, dma, bounce, page);
  return bounce;
}

/** A bounce page gets what the page holds, also where the device is only to write: what it does not write is copied back too. */
export function fillBounce(kernel: Kernel, dma: Ref<'GuestDma'>, bounce: number, page: number): void {
  copyPage(kernel, dma, bounce, page);
  BounceFilled.emit(kernel.memory, frameOf(kernel, dma, bounce), frameOf(kernel, dma, page));
}

/** What the device wrote goes to the page that the bounce page stands for. */
function returnSlot(kernel: Kernel, dma: Ref<'GuestDma'>, bounce: number): void {
  const slot = bounce - GuestDma.firstSlot.peek(kernel.memory, dma);
  const page = GuestDma.bounced.get(kernel.memory, dma, slot);
  BounceCopied.emit(kernel.memory, frameOf(kernel, dma, bounce), frameOf(kernel, dma, page));
  copyPage(kernel, dma, page, bounce);
  GuestDma.slots.write(kernel.memory, dma, GuestDma.slots.read(kernel.memory, dma) | (1 << slot));
}

/** Whether a page is a bounce page in use. */
function isSlot(kernel: Kernel, dma: Ref<'GuestDma'>, page: number): boolean {
  const slot = page - GuestDma.firstSlot.peek(kernel.memory, dma);
  return slot >= 0 && slot < GuestDma.slotCount.peek(kernel.memory, dma) && (GuestDma.slots.read(kernel.memory, dma) & (1 << slot)) === 0;
}

function copyPage(kernel: Kernel, dma: Ref<'GuestDma'>, to: number, from: number): void {
  copy(kernel.host.ram, hpaOf(frameOf(kernel, dma, to)), kernel.host.ram, hpaOf(frameOf(kernel, dma, from)), pageBytes);
}

const frameOf = (kernel: Kernel, dma: Ref<'GuestDma'>, page: number): Frame => guestFrame(kernel, GuestDma.tvm.peek(kernel.memory, dma), page);

const functionOf = (kernel: Kernel, dma: Ref<'GuestDma'>): Ref<'PciFunction'> =>
  PciDevice.function.peek(kernel.memory, GuestDma.device.peek(kernel.memory, dma));
