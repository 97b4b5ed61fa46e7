/**
 * The DMA API of kernel drivers over a group's default domain (drivers/iommu/dma-iommu.c): IOVAs of the kernel's choice, and unmaps that
 * flush at once (strict) or leave that to a queue (lazy, SEMANTICS B14).
 *
 * A lazy unmap clears its entries, stamps its IOVA with how many flushes had begun, and returns; the IOVA is free again when a flush that
 * began later is over. Who flushes: an unmap that finds the ring full, or the timer. Until then the device may reach the pages.
 *
 *   timer   OFF -> ARMED by the first unmap into the queue;  ARMED -> OFF by the timer's thread, that then flushes
 */
import { mutex, waitWord } from '#hostmem/locks';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, ref, u32, words } from '#hostmem/struct';
import { IommuDomain } from '../drivers/domain.ts';
import { DmaMapped, DmaUnmapped, IovaFreed } from './events.ts';
import type { Kernel } from './kernel.ts';

/** IOVAs are pages from here on: enough for a few drivers' buffers. */
export const firstDmaIova = 0x4000_0000;
const iovaPages = 2048;
const allPages = 2 ** 52;
/** Slots of the ring, of which one stays empty; 7.2 has 256 for each CPU. */
const ringSlots = 4;
/** Page, pages, and stamp. */
const slotWords = 3;
/** A flush is at most this late, in virtual milliseconds (`IOVA_DEFAULT_FQ_TIMEOUT`). */
export const flushTimeoutMs = 10;
export const Timer = { OFF: 0, ARMED: 1 } as const;

export const DmaDomain = object('DmaDomain', {
  domain: ref('IommuDomain'),
  lazy: u32,
  iovaLock: mutex,
  /** A bit for each page that is mapped, or waits for its flush. */
  taken: words(iovaPages / 32),
  queueLock: mutex,
  head: u32.under('queueLock'),
  tail: u32.under('queueLock'),
  ring: words(ringSlots * slotWords),
  /** Flushes begun, and flushes done. */
  started: u32,
  finished: u32,
  timer: waitWord,
  /** Virtual time: what the timer has counted. */
  clockMs: u32,
});

/** Lets drivers of the domain's devices use the DMA API. */
export function createDmaDomain(kernel: Kernel, domain: Ref<'IommuDomain'>, lazy: boolean): Ref<'DmaDomain'> {
  const created = DmaDomain.create(kernel.memory);
  DmaDomain.domain.poke(kernel.memory, created, domain);
  DmaDomain.lazy.poke(kernel.memory, created, lazy ? 1 : 0);
  return created;
}

/** Maps `pages` consecutive frames for reading and writing (`dma_map_phys`); returns the IOVA in bytes, 0 when there is no room. */
export function dmaMap(kernel: Kernel, dma: Ref<'DmaDomain'>, frame: Frame, pages: number): number {
  const memory = kernel.memory;
  const domain = DmaDomain.domain.peek(memory, dma);
  const page = takeIova(kernel, dma, pages);
  if (page < 0) return 0;
  const iova = firstDmaIova + page * 4096;
  DmaMapped.emit(memory, IommuDomain.root.peek(memory, domain), 0, iova, pages);
  if (kernel.driver.map(domain, 0, iova, frame, 3, pages) === 0) return iova;
  DmaUnmapped.emit(memory, IommuDomain.root.peek(memory, domain), 0, iova, pages);
  returnIova(kernel, dma, page, pages);
  return 0;
}

/** Unmaps what `dmaMap` returned (`dma_unmap_phys`). After a strict unmap no device reaches the pages; after a lazy one not for long. */
export function dmaUnmap(kernel: Kernel, dma: Ref<'DmaDomain'>, iova: number, pages: number): void {
  const memory = kernel.memory;
  const domain = DmaDomain.domain.peek(memory, dma);
  const isLazy = DmaDomain.lazy.peek(memory, dma) !== 0;
  const page = (iova - firstDmaIova) / 4096;
  kernel.driver.unmap(domain, 0, iova, pages);
  if (isLazy) kernel.operations.dma.queueIova(kernel, dma, page, pages);
  else flushAtOnce(kernel, dma, page, pages);
  DmaUnmapped.emit(memory, IommuDomain.root.peek(memory, domain), 0, iova, pages, isLazy ? 1 : 0);
}

/** An IOVA whose entries are cleared is flushed, and free again. */
export function flushAtOnce(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number): void {
  kernel.driver.sync(DmaDomain.domain.peek(kernel.memory, dma), 0, firstDmaIova + page * 4096, pages, true);
  returnIova(kernel, dma, page, pages);
}

/** Maps into a domain at an IOVA of the caller's choice (`iommu_map`). False when the driver refuses. */
export function iommuMap(kernel: Kernel, domain: Ref<'IommuDomain'>, iova: number, frame: Frame, pages: number): boolean {
  return kernel.driver.map(domain, Math.floor(iova / 2 ** 32), iova | 0, frame, 3, pages) === 0;
}

/** Unmaps a range and flushes (`iommu_unmap`): what a large leaf at its end held goes with it. Returns how many pages went. */
export function iommuUnmap(kernel: Kernel, domain: Ref<'IommuDomain'>, iova: number, pages: number): number {
  const removed = kernel.driver.unmap(domain, Math.floor(iova / 2 ** 32), iova | 0, pages);
  kernel.driver.sync(domain, Math.floor(iova / 2 ** 32), iova | 0, pages, true);
  return removed;
}

/** Puts an IOVA whose entries are cleared into the ring (`queue_iova`); flushes first when that is full. */
export function queueIova(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number): void {
  addToRing(kernel, dma, page, pages, DmaDomain.started.load(kernel.memory, dma));
}

/** Free again when more flushes than `stamp` are over. */
export function addToRing(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number, stamp: number): void {
  const memory = kernel.memory;
  DmaDomain.queueLock.acquire(memory, dma);
  freeFlushed(kernel, dma);
  const tail = DmaDomain.tail.read(memory, dma);
  // A flush counts for what was queued before it began: while the timer's is under way one is not enough for what was queued since.
  // 7.2 flushes once, and has 256 slots.
  while ((tail + 1) % ringSlots === DmaDomain.head.read(memory, dma)) {
    flush(kernel, dma);
    freeFlushed(kernel, dma);
  }
  [page, pages, stamp].forEach((word, index) => DmaDomain.ring.set(memory, dma, tail * slotWords + index, word));
  DmaDomain.tail.write(memory, dma, (tail + 1) % ringSlots);
  DmaDomain.queueLock.release(memory, dma);
  DmaDomain.timer.store(memory, dma, Timer.ARMED);
}

/** The timer's interrupt, once it is armed (`fq_flush_timeout`): time has passed, and all that is queued by now is flushed. */
export function flushTimeout(kernel: Kernel, dma: Ref<'DmaDomain'>): void {
  const memory = kernel.memory;
  DmaDomain.timer.store(memory, dma, Timer.OFF);
  DmaDomain.clockMs.poke(memory, dma, DmaDomain.clockMs.peek(memory, dma) + flushTimeoutMs);
  flush(kernel, dma);
  DmaDomain.queueLock.acquire(memory, dma);
  freeFlushed(kernel, dma);
  DmaDomain.queueLock.release(memory, dma);
}

/** The whole domain, counted at both ends (`fq_flush_iotlb`). */
function flush(kernel: Kernel, dma: Ref<'DmaDomain'>): void {
  DmaDomain.started.add(kernel.memory, dma, 1);
  kernel.driver.sync(DmaDomain.domain.peek(kernel.memory, dma), 0, 0, allPages, false);
  DmaDomain.finished.add(kernel.memory, dma, 1);
}

/** IOVAs at the ring's head for which a flush that began after them is over (`fq_ring_free_locked`). Under `queueLock`. */
function freeFlushed(kernel: Kernel, dma: Ref<'DmaDomain'>): void {
  const memory = kernel.memory;
  const finished = DmaDomain.finished.load(memory, dma);
  let head = DmaDomain.head.read(memory, dma);
  for (; head !== DmaDomain.tail.read(memory, dma); head = (head + 1) % ringSlots) {
    if (DmaDomain.ring.get(memory, dma, head * slotWords + 2) >= finished) break;
    returnIova(kernel, dma, DmaDomain.ring.get(memory, dma, head * slotWords), DmaDomain.ring.get(memory, dma, head * slotWords + 1));
  }
  DmaDomain.head.write(memory, dma, head);
}

/** The lowest free range, aligned to its size; -1 for none. */
function takeIova(kernel: Kernel, dma: Ref<'DmaDomain'>, pages: number): number {
  const memory = kernel.memory;
  const step = 2 ** Math.ceil(Math.log2(pages));
  DmaDomain.iovaLock.acquire(memory, dma);
  let page = 0;
  while (page + pages <= iovaPages && !isFree(kernel, dma, page, pages)) page += step;
  const found = page + pages <= iovaPages;
  if (found) mark(kernel, dma, page, pages, true);
  DmaDomain.iovaLock.release(memory, dma);
  return found ? page : -1;
}

function returnIova(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number): void {
  IovaFreed.emit(kernel.memory, IommuDomain.root.peek(kernel.memory, DmaDomain.domain.peek(kernel.memory, dma)), 0, firstDmaIova + page * 4096, pages);
  DmaDomain.iovaLock.acquire(kernel.memory, dma);
  mark(kernel, dma, page, pages, false);
  DmaDomain.iovaLock.release(kernel.memory, dma);
}

function isFree(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number): boolean {
  for (let one = page; one < page + pages; one++) if ((DmaDomain.taken.get(kernel.memory, dma, one >>> 5) & (1 << (one & 31))) !== 0) return false;
  return true;
}

function mark(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number, taken: boolean): void {
  for (let one = page; one < page + pages; one++) {
    const word = DmaDomain.taken.get(kernel.memory, dma, one >>> 5);
    const bit = 1 << (one & 31);
    DmaDomain.taken.set(kernel.memory, dma, one >>> 5, taken ? word | bit : word & ~bit);
  }
}
