/**
 * The IO page table of an IOAS (`struct io_pagetable`, drivers/iommu/iommufd/io_pagetable.c): how areas become mappings, and how they go.
 *
 * Locks, outer first: `domainsRwsem`, `iovaRwsem`, the pages' mutex. Its parts: `iopt-area`, `iopt-placement`, `iopt-fill`,
 * `iopt-domains`, `iopt-ranges`, `iopt-alignment`, `iopt-split`. None of them knows devices or HWPTs.
 */
import { NULL, type Ref } from '#hostmem/object';
import { notifyAccesses } from './access.ts';
import { fail } from './errno.ts';
import { AreaTaken } from './events.ts';
import { Ioas, ioasId } from './ioas.ts';
import { abortArea, Area, areaEnd, areaIova, areaIovaHigh, areaIovaLow } from './iopt-area.ts';
import { emptyDomains, fillDomains } from './iopt-fill.ts';
import type { Kernel } from './kernel.ts';
import { high, low } from './u64.ts';

/**
 * Fills every domain with a placed area and makes it a mapping (`iopt_map_pages`). Returns the iova. EFAULT, ENOMEM; a
 * failure leaves nothing behind but empty tables.
 */
export function mapPages(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): bigint {
  const iova = areaIova(kernel, area);
  mapAreas(kernel, ioas, [area]);
  return iova;
}

/** The same for areas that are placed together: all or none. */
export function mapAreas(kernel: Kernel, ioas: Ref<'Ioas'>, areas: readonly Ref<'Area'>[]): void {
  try {
    kernel.operations.iopt.fillAndPublish(kernel, ioas, areas);
  } catch (error) {
    for (const area of areas) abortArea(kernel, ioas, area);
    throw error;
  }
}

/** Both happen under one read lock of `domainsRwsem`, so that a domain added meanwhile misses nothing (`map-attach-fill-gap`). */
export function fillAndPublish(kernel: Kernel, ioas: Ref<'Ioas'>, areas: readonly Ref<'Area'>[]): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireRead(memory, ioas);
  let filled = 0;
  try {
    for (; filled < areas.length; filled++) fillDomains(kernel, ioas, areas[filled]!);
    Ioas.iovaRwsem.acquireWrite(memory, ioas);
    for (const area of areas) Area.pages.write(memory, area, Area.transit.peek(memory, area));
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
  } catch (error) {
    for (let undo = 0; undo < filled; undo++) emptyDomains(kernel, ioas, areas[undo]!);
    throw error;
  } finally {
    Ioas.domainsRwsem.releaseRead(memory, ioas);
  }
}

/** How much an unmap removed, also when it ended in an error. */
export interface Removed { bytes: bigint }

/**
 * Removes every whole area in `[start, last]` (`iopt_unmap_iova_range`) and counts the bytes in `removed`. Areas that went
 * before an error stay gone. EBUSY for an unfinished area, ENOENT for one that sticks out.
 */
export function unmapRange(kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint, removed: Removed = { bytes: 0n }): void {
  const memory = kernel.memory;
  let from = start;
  let asked = 0;
  Ioas.domainsRwsem.acquireRead(memory, ioas);
  try {
    for (;;) {
      const area = takeArea(kernel, ioas, from, last);
      if (area === NULL) return;
      if (areaIova(kernel, area) !== from) asked = 0;
      if (Area.preventAccess.read(memory, area) === PINNED) {
        asked++;
        from = askAccesses(kernel, ioas, area);
        if (asked > patience) fail('EDEADLOCK', 'an access does not let go of its pages');
        continue;
      }
      const areaLast = areaEnd(kernel, area);
      removed.bytes += areaLast - areaIova(kernel, area) + 1n;
      emptyDomains(kernel, ioas, area);
      abortArea(kernel, ioas, area);
      if (areaLast >= last) return;
      from = kernel.operations.iopt.resumeUnmap(start, areaLast);
    }
  } finally {
    Ioas.domainsRwsem.releaseRead(memory, ioas);
  }
}

/** Where an unmap from `start` on looks next: behind what went, for a mapping made meanwhile in the freed range is not its own (8602018b1f17). */
export function resumeUnmap(_start: bigint, areaLast: bigint): bigint {
  return areaLast + 1n;
}

/** `Area.preventAccess`: an access pins the area, or nobody does and it is going. */
const PINNED = 1;

const UNMAPPING = 2;

/** How often accesses are asked for one area, or for all that are back to back. */
const patience = 100;

/** Asks with all locks dropped; returns where the search goes on, which is the area's start. */
function askAccesses(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): bigint {
  const iova = areaIova(kernel, area);
  const length = areaEnd(kernel, area) - iova + 1n;
  Ioas.domainsRwsem.releaseRead(kernel.memory, ioas);
  notifyAccesses(kernel, ioas, iova, length);
  Ioas.domainsRwsem.acquireRead(kernel.memory, ioas);
  return iova;
}

/** Finds the first area of the range and makes it unfinished, unless an access pins it; `NULL` when there is none. */
function takeArea(kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint): Ref<'Area'> {
  const memory = kernel.memory;
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const node = Ioas.areas.first(memory, ioas, high(start), low(start), high(last), low(last));
    if (node === NULL) return NULL;
    const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
    if (Area.pages.read(memory, area) === NULL) fail('EBUSY', 'a mapping in the range is not finished');
    if (Area.locks.read(memory, area) !== 0) fail('EBUSY', 'a hardware queue lies in a mapping of the range');
    if (!Ioas.areas.isWithin(memory, node, high(start), low(start), high(last), low(last))) fail('ENOENT', 'a mapping sticks out of the range');
    const pinned = Area.accesses.read(memory, area) !== 0;
    Area.preventAccess.write(memory, area, pinned ? PINNED : UNMAPPING);
    if (!pinned) Area.pages.write(memory, area, NULL);
    if (!pinned && memory.history !== null) tellTaken(kernel, ioas, area);
    return area;
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
  }
}

function tellTaken(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  if (Ioas.dying.peek(kernel.memory, ioas) !== 0) return;
  const count = Area.pageCount.peek(kernel.memory, area);
  AreaTaken.emit(kernel.memory, ioasId(kernel, ioas), areaIovaHigh(kernel, area), areaIovaLow(kernel, area), count, kernel.processNumber);
}
