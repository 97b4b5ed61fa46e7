/**
 * The IO page table of an IOAS (`struct io_pagetable`, drivers/iommu/iommufd/io_pagetable.c): areas, reserved and allowed
 * ranges, and the domains that all hold the same translations.
 *
 * Locks, outer first: `domainsRwsem`, `iovaRwsem`, the pages' mutex. An area whose `pages` is null is being mapped or
 * unmapped: others see its range as taken. This file does not know devices or HWPTs.
 */
import type { IntervalNode } from '#hostmem/interval-tree';
import { NULL, type Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table';
import { object, ref, u32 } from '#hostmem/struct';
import { hpaOf, type Frame } from '#hostmem/memory';
import { IommuDomain } from '../drivers/domain.ts';
import type { MapError } from '../drivers/driver.ts';
import { alignmentOfAccesses, notifyAccesses } from './access.ts';
import { allocated, fail } from './errno.ts';
import { AreaPlaced, AreaTaken, DomainJoined, DomainLeft } from './events.ts';
import { Ioas, MapFlag } from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { IommufdObject } from './objects.ts';
import { addFill, createPages, dropFill, Pages, pinnedFrame, putPages } from './pages.ts';
import { big, high, low, lowestSetBit, PAGE, roundUpPowerOfTwo, U64_MAX } from './u64.ts';

/** One mapping (`struct iopt_area`). */
export const Area = object('Area', {
  ioas: ref('Ioas'),
  /** Its node in `Ioas.areas`, which holds the range. */
  node: ref('IntervalNode'),
  /** Null while it is being mapped or unmapped. */
  pages: ref('Pages').under('ioas.iovaRwsem'),
  /** The pages, also while in transit; the one who maps or unmaps owns it then. */
  transit: ref('Pages'),
  /** Offset of the first byte within its first page. */
  pageOffset: u32,
  /** What of the pages it maps. */
  firstPage: u32,
  pageCount: u32,
  permissions: u32,
  /** Pins of accesses; each of an area that is mapped. */
  accesses: u32,
  /** Somebody unmaps it and waits until no access pins it. */
  preventAccess: u32,
  /** Hardware queues that lie in it: it cannot be unmapped meanwhile. */
  locks: u32.under('ioas.iovaRwsem'),
});

/** A domain of an IOAS. */
export const IoptDomain = object('IoptDomain', { domain: ref('IommuDomain'), next: ref('IoptDomain') });

const pmdSize = 1n << 21n;

/** Reserves `[iova, iova + length)` for a mapping that will be filled: step 6 of SEMANTICS a.1, FIXED. */
export function placeFixed(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint, userVa: bigint, flags: number): Ref<'Area'> {
  const memory = kernel.memory;
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const alignment = checkLength(kernel, ioas, length);
    checkFixed(kernel, ioas, iova, length, alignment);
    return insertNewPages(kernel, ioas, iova, length, userVa, flags);
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
  }
}

/** The alignment of the IOAS, which every length is a multiple of; EINVAL. Under `iovaRwsem`. */
export function checkLength(kernel: Kernel, ioas: Ref<'Ioas'>, length: bigint): bigint {
  const alignment = BigInt(Ioas.alignment.read(kernel.memory, ioas));
  if (length % alignment !== 0n) fail('EINVAL', `length is no multiple of ${alignment}`);
  return alignment;
}

/** Whether an iova of the caller's choice can be had (`iopt_check_iova`). EINVAL, EOVERFLOW, EEXIST. Under `iovaRwsem`. */
export function checkFixed(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint, alignment: bigint): void {
  const memory = kernel.memory;
  if (iova % alignment !== 0n) fail('EINVAL', `iova is no multiple of ${alignment}`);
  const last = iova + length - 1n;
  if (last > U64_MAX) fail('EOVERFLOW', 'iova + length wraps');
  if (Ioas.reserved.first(memory, ioas, high(iova), low(iova), high(last), low(last)) !== NULL) fail('EINVAL', 'the range is reserved');
  if (Ioas.areas.first(memory, ioas, high(iova), low(iova), high(last), low(last)) !== NULL) fail('EEXIST', 'the range is mapped');
}

/** The same with an iova of the kernel's choice (`iopt_alloc_iova`): first fit, ascending, never 0. */
export function placeAutomatically(kernel: Kernel, ioas: Ref<'Ioas'>, length: bigint, userVa: bigint, flags: number): Ref<'Area'> {
  const memory = kernel.memory;
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const alignment = checkLength(kernel, ioas, length);
    const iova = chooseIova(kernel, ioas, length, userVa, alignment);
    return insertNewPages(kernel, ioas, iova, length, userVa, flags);
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
  }
}

/** The lowest iova that fits, aligned as `userVa` allows. EOVERFLOW, EINVAL, ENOSPC. Under `iovaRwsem`. */
export function chooseIova(kernel: Kernel, ioas: Ref<'Ioas'>, length: bigint, userVa: bigint, alignment: bigint): bigint {
  if (length >= U64_MAX / 2n) fail('EOVERFLOW', 'length is half the space or more');
  let wanted = roundUpPowerOfTwo(length);
  if (userVa !== 0n && lowestSetBit(userVa) < wanted) wanted = lowestSetBit(userVa);
  if (wanted > pmdSize) wanted = pmdSize;
  if (wanted < alignment) fail('EINVAL', `user_va is aligned to ${wanted}, ${alignment} is needed`);
  for (const [start, last] of searchRanges(kernel, ioas)) {
    const iova = firstFit(kernel, ioas, start, last, length, wanted, userVa % PAGE);
    if (iova !== null) return iova;
  }
  return fail('ENOSPC', `no free range of 0x${length.toString(16)} bytes`);
}

/** Where automatic placement may look: the allowed ranges, neighbours as one, or everything but the first and the last page. */
function searchRanges(kernel: Kernel, ioas: Ref<'Ioas'>): [bigint, bigint][] {
  const memory = kernel.memory;
  const ranges: [bigint, bigint][] = [];
  const nodes = allowedNodes(kernel, ioas);
  if (nodes.length === 0) return [[PAGE, U64_MAX - PAGE]];
  for (const node of nodes) {
    const start = big(Ioas.allowed.startHigh(memory, node), Ioas.allowed.startLow(memory, node));
    const last = big(Ioas.allowed.lastHigh(memory, node), Ioas.allowed.lastLow(memory, node));
    const before = ranges.at(-1);
    if (before?.[1] === start - 1n) before[1] = last;
    else ranges.push([start, last]);
  }
  return ranges.map(([start, last]) => [start < PAGE ? PAGE : start, last > U64_MAX - PAGE ? U64_MAX - PAGE : last]);
}

/** The lowest iova in `[start, last]`: in each hole, the hole's start aligned, or-ed with the offset within a page. */
function firstFit(
  kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint, length: bigint, alignment: bigint, offset: bigint,
): bigint | null {
  let hole = start;
  while (hole <= last) {
    const used = lastUsed(kernel, ioas, hole, hole);
    const iova = ((hole + alignment - 1n) / alignment) * alignment | offset;
    if (used === null && (iova >= last || last - iova < length - 1n)) return null;
    // The kernel passes over a hole whose last byte would be the iova, and the offset may lead out of the hole.
    const obstacle = used ?? lastUsed(kernel, ioas, hole, length > 1n ? iova + length - 1n : iova + 1n);
    if (obstacle === null) return iova;
    hole = obstacle + 1n;
  }
  return null;
}

/** The end of an area or reserved range that meets `[start, last]`; null when none does. */
function lastUsed(kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint): bigint | null {
  const memory = kernel.memory;
  const area = Ioas.areas.first(memory, ioas, high(start), low(start), high(last), low(last));
  if (area !== NULL) return big(Ioas.areas.lastHigh(memory, area), Ioas.areas.lastLow(memory, area));
  const reserved = Ioas.reserved.first(memory, ioas, high(start), low(start), high(last), low(last));
  return reserved === NULL ? null : big(Ioas.reserved.lastHigh(memory, reserved), Ioas.reserved.lastLow(memory, reserved));
}

/** An area over pages of the calling process that nothing else maps yet. EINVAL, ENOMEM. Under `iovaRwsem`. */
function insertNewPages(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint, userVa: bigint, flags: number): Ref<'Area'> {
  const offset = userVa % PAGE;
  const count = Number((offset + length + PAGE - 1n) >> 12n);
  checkOffset(kernel, ioas, offset);
  const pages = createPages(kernel, kernel.process, userVa, count, (flags & MapFlag.WRITEABLE) !== 0);
  try {
    return insertArea(kernel, ioas, iova, length, pages, offset, flags);
  } catch (error) {
    putPages(kernel, pages);
    throw error;
  }
}

function checkOffset(kernel: Kernel, ioas: Ref<'Ioas'>, startByte: bigint): void {
  const alignment = BigInt(Ioas.alignment.read(kernel.memory, ioas));
  if ((startByte % PAGE) % alignment !== 0n) fail('EINVAL', `user_va is no multiple of ${alignment}`);
}

/**
 * An unfinished area over `length` bytes of pages from `startByte` on (`iopt_insert_area`); the caller's reference to the pages
 * becomes the area's. EPERM, EINVAL, ENOMEM. Under `iovaRwsem`.
 */
export function insertArea(
  kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint, pages: Ref<'Pages'>, startByte: bigint, flags: number,
): Ref<'Area'> {
  const memory = kernel.memory;
  const last = iova + length - 1n;
  if ((flags & MapFlag.WRITEABLE) !== 0 && Pages.writable.peek(memory, pages) === 0) fail('EPERM', 'the pages were mapped read-only');
  checkOffset(kernel, ioas, startByte);
  const area = createArea(kernel, length, pages, startByte, flags);
  Area.ioas.poke(memory, area, ioas);
  const node = Ioas.areas.insert(memory, ioas, high(iova), low(iova), high(last), low(last), area);
  if (node === NULL) Area.free(memory, area);
  Area.node.poke(memory, area, allocated(node));
  AreaPlaced.emit(memory, ioasId(kernel, ioas), high(iova), low(iova), Area.pageCount.peek(memory, area), kernel.processNumber);
  return area;
}

/** An area in no tree. ENOMEM. */
function createArea(kernel: Kernel, length: bigint, pages: Ref<'Pages'>, startByte: bigint, flags: number): Ref<'Area'> {
  const memory = kernel.memory;
  const offset = startByte % PAGE;
  const area = allocated(Area.tryCreate(memory));
  Area.transit.poke(memory, area, pages);
  Area.pageOffset.poke(memory, area, Number(offset));
  Area.firstPage.poke(memory, area, Number(startByte >> 12n));
  Area.pageCount.poke(memory, area, Math.min(Number((offset + length + PAGE - 1n) >> 12n), 0x7fffffff));
  const readable = (flags & MapFlag.READABLE) !== 0;
  const writable = (flags & MapFlag.WRITEABLE) !== 0;
  Area.permissions.poke(memory, area, (readable ? Access.READ : 0) | (writable ? Access.WRITE : 0));
  return area;
}

function freeArea(kernel: Kernel, area: Ref<'Area'>): void {
  putPages(kernel, Area.transit.peek(kernel.memory, area));
  Area.free(kernel.memory, area);
}

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

/** Takes an unfinished area out again (`iopt_abort_area`). */
export function abortArea(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  Ioas.areas.remove(memory, ioas, Area.node.peek(memory, area));
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  freeArea(kernel, area);
}

/** All domains or none. The caller holds `domainsRwsem`. */
export function fillDomains(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  const first = Ioas.domains.read(memory, ioas);
  if (first === NULL) return;
  const pages = Area.transit.peek(memory, area);
  Pages.mutex.acquire(memory, pages);
  let at: Ref<'IoptDomain'> = first;
  try {
    for (; at !== NULL; at = IoptDomain.next.peek(memory, at)) fillArea(kernel, IoptDomain.domain.peek(memory, at), area);
  } catch (error) {
    for (let undo: Ref<'IoptDomain'> = first; undo !== at; undo = IoptDomain.next.peek(memory, undo)) {
      kernel.operations.iopt.emptyArea(kernel, IoptDomain.domain.peek(memory, undo), area);
    }
    throw error;
  } finally {
    Pages.mutex.release(memory, pages);
  }
}

/** Pins if need be and writes one domain's entries; undoes itself. The caller holds the pages' mutex. EFAULT, ENOMEM. */
function fillArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  const pages = Area.transit.peek(memory, area);
  const iova = areaIova(kernel, area);
  const first = Area.firstPage.peek(memory, area);
  const count = Area.pageCount.peek(memory, area);
  const permissions = Area.permissions.peek(memory, area);
  addFill(kernel, pages, first, count);
  for (let i = 0; i < count; i++) {
    const page = i === 0 ? iova : iova + BigInt(i) * PAGE - BigInt(Area.pageOffset.peek(memory, area));
    const problem = mapPage(kernel, domain, area, page, pinnedFrame(kernel, pages, first + i), permissions);
    if (problem === 0) continue;
    if (i > 0) unmapArea(kernel, domain, iova, page - 1n, i);
    dropFill(kernel, pages, first, count);
    fail(problem, `the domain refuses page 0x${page.toString(16)}`);
  }
}

/** What of a page the area maps, from `iova` on: all of it, but where the unit's pages are smaller than the CPU's. */
function mapPage(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>, iova: bigint, frame: Frame, permissions: number): 0 | MapError {
  if (kernel.driver.mapBytes === undefined) return kernel.driver.map(domain, high(iova), low(iova), frame, permissions);
  const offset = iova === areaIova(kernel, area) ? Area.pageOffset.peek(kernel.memory, area) : 0;
  const left = areaEnd(kernel, area) - iova + 1n;
  const room = Number(PAGE) - offset;
  return kernel.driver.mapBytes(domain, iova, hpaOf(frame) + offset, left < room ? Number(left) : room, permissions);
}

/** Clears `[iova, last]`, which `pages` pages of the CPU are behind, and waits until no cache has it. */
function unmapArea(kernel: Kernel, domain: Ref<'IommuDomain'>, iova: bigint, last: bigint, pages: number): void {
  if (kernel.driver.unmapBytes !== undefined) {
    kernel.driver.unmapBytes(domain, iova, last - iova + 1n);
    return;
  }
  kernel.driver.unmap(domain, high(iova), low(iova), pages);
  kernel.driver.sync(domain, high(iova), low(iova), pages, true);
}

/** Clears one domain's entries, waits for the invalidation, then unpins: never the other way round (I4, D1). */
export function emptyArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  const pages = Area.transit.peek(memory, area);
  const iova = areaIova(kernel, area);
  const count = Area.pageCount.peek(memory, area);
  unmapArea(kernel, domain, iova, areaEnd(kernel, area), count);
  dropFill(kernel, pages, Area.firstPage.peek(memory, area), count);
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
      if (Area.preventAccess.load(memory, area) === PINNED) {
        asked++;
        from = askAccesses(kernel, ioas, area);
        if (asked > patience) fail('EDEADLOCK', 'an access does not let go of its pages');
        continue;
      }
      asked = 0;
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
/** How often accesses are asked for one area. */
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
    if (areaIova(kernel, area) < start || areaEnd(kernel, area) > last) fail('ENOENT', 'a mapping sticks out of the range');
    const pinned = Area.accesses.load(memory, area) !== 0;
    Area.preventAccess.store(memory, area, pinned ? PINNED : UNMAPPING);
    if (!pinned) Area.pages.write(memory, area, NULL);
    if (!pinned) tellTaken(kernel, ioas, area);
    return area;
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
  }
}

function tellTaken(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  const iova = areaIova(kernel, area);
  AreaTaken.emit(kernel.memory, ioasId(kernel, ioas), high(iova), low(iova), Area.pageCount.peek(kernel.memory, area), kernel.processNumber);
}

export function emptyDomains(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  if (Ioas.domains.read(memory, ioas) === NULL) return;
  const pages = Area.transit.peek(memory, area);
  Pages.mutex.acquire(memory, pages);
  let at: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  for (; at !== NULL; at = IoptDomain.next.peek(memory, at)) kernel.operations.iopt.emptyArea(kernel, IoptDomain.domain.peek(memory, at), area);
  Pages.mutex.release(memory, pages);
}

/**
 * Makes a domain hold what the IOAS holds (`iopt_table_add_domain`). EADDRINUSE when the domain's aperture or alignment
 * does not fit what is mapped or allowed, EINVAL when its smallest page is larger than 4 KiB, and EFAULT, ENOMEM of the filling;
 * a failure leaves the IOAS as it was.
 */
export function addDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const alignment = Math.max(Ioas.alignment.read(memory, ioas), pageBytesOf(kernel, domain));
    checkAlignment(kernel, ioas, alignment);
    const link = allocated(IoptDomain.tryCreate(memory));
    fillNewDomain(kernel, ioas, domain, link);
    Ioas.alignment.write(memory, ioas, alignment);
    appendDomain(kernel, ioas, domain, link);
    DomainJoined.emit(memory, ioasId(kernel, ioas), kernel.processNumber, IommuDomain.root.peek(memory, domain));
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
    Ioas.domainsRwsem.releaseWrite(memory, ioas);
  }
}

/** Reserves what the domain cannot map and fills it; undoes both, and frees the link. */
function fillNewDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>, link: Ref<'IoptDomain'>): void {
  try {
    reserve(kernel, ioas, 0n, apertureFirst(kernel, domain) - 1n, domain);
    reserve(kernel, ioas, apertureLast(kernel, domain) + 1n, U64_MAX, domain);
    fillAllAreas(kernel, ioas, domain);
  } catch (error) {
    unreserve(kernel, ioas, domain);
    IoptDomain.free(kernel.memory, link);
    throw error;
  }
}

/** Domains are filled and emptied in the order in which they came. */
function appendDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>, link: Ref<'IoptDomain'>): void {
  const memory = kernel.memory;
  IoptDomain.domain.poke(memory, link, domain);
  let last: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  if (last === NULL) {
    Ioas.domains.write(memory, ioas, link);
    return;
  }
  for (let next = IoptDomain.next.peek(memory, last); next !== NULL; next = IoptDomain.next.peek(memory, last)) last = next;
  IoptDomain.next.poke(memory, last, link);
}

/** Whether every mapping fits the alignment (`iopt_check_iova_alignment`). EINVAL, EADDRINUSE. Under `iovaRwsem`. */
export function checkAlignment(kernel: Kernel, ioas: Ref<'Ioas'>, bytes: number): void {
  const memory = kernel.memory;
  if (bytes > Number(PAGE)) fail('EINVAL', `the domain's smallest page has ${bytes} bytes`);
  if (bytes === Ioas.alignment.read(memory, ioas)) return;
  const alignment = BigInt(bytes);
  for (let node = firstArea(kernel, ioas); node !== NULL; node = nextArea(kernel, ioas, node)) {
    const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
    const misaligned = areaIova(kernel, area) % alignment !== 0n || (areaEnd(kernel, area) + 1n) % alignment !== 0n;
    if (misaligned || Area.pageOffset.peek(memory, area) % bytes !== 0) fail('EADDRINUSE', `a mapping is not aligned to ${bytes}`);
  }
}

function fillAllAreas(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  let node = firstArea(kernel, ioas);
  try {
    for (; node !== NULL; node = nextArea(kernel, ioas, node)) {
      const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
      if (Area.pages.read(memory, area) === NULL) continue;
      fillUnderMutex(kernel, area, domain);
    }
  } catch (error) {
    for (let undo = firstArea(kernel, ioas); undo !== node; undo = nextArea(kernel, ioas, undo)) {
      const area = Ioas.areas.value(memory, undo) as Ref<'Area'>;
      if (Area.pages.read(memory, area) !== NULL) emptyUnderMutex(kernel, area, domain);
    }
    throw error;
  }
}

function fillUnderMutex(kernel: Kernel, area: Ref<'Area'>, domain: Ref<'IommuDomain'>): void {
  const pages = Area.transit.peek(kernel.memory, area);
  Pages.mutex.acquire(kernel.memory, pages);
  try {
    fillArea(kernel, domain, area);
  } finally {
    Pages.mutex.release(kernel.memory, pages);
  }
}

function emptyUnderMutex(kernel: Kernel, area: Ref<'Area'>, domain: Ref<'IommuDomain'>): void {
  const pages = Area.transit.peek(kernel.memory, area);
  Pages.mutex.acquire(kernel.memory, pages);
  kernel.operations.iopt.emptyArea(kernel, domain, area);
  Pages.mutex.release(kernel.memory, pages);
}

/** Takes a domain out: empties it and gives its reservations back (`iopt_table_remove_domain`). */
export function removeDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  unlinkDomain(kernel, ioas, domain);
  DomainLeft.emit(memory, ioasId(kernel, ioas), kernel.processNumber, IommuDomain.root.peek(memory, domain));
  for (let node = firstArea(kernel, ioas); node !== NULL; node = nextArea(kernel, ioas, node)) {
    const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
    if (Area.pages.read(memory, area) !== NULL) emptyUnderMutex(kernel, area, domain);
  }
  unreserve(kernel, ioas, domain);
  Ioas.alignment.write(memory, ioas, wantedAlignment(kernel, ioas));
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  Ioas.domainsRwsem.releaseWrite(memory, ioas);
}

function unlinkDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  let before: Ref<'IoptDomain'> = NULL;
  let at: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  while (IoptDomain.domain.peek(memory, at) !== domain) {
    before = at;
    at = IoptDomain.next.peek(memory, at);
  }
  const next = IoptDomain.next.peek(memory, at);
  if (before === NULL) Ioas.domains.write(memory, ioas, next);
  else IoptDomain.next.poke(memory, before, next);
  IoptDomain.free(memory, at);
}

/** What the domains, the accesses and the switch for large pages ask of every mapping, in bytes (`iopt_calculate_iova_alignment`). Under `domainsRwsem`. */
export function wantedAlignment(kernel: Kernel, ioas: Ref<'Ioas'>): number {
  const memory = kernel.memory;
  let alignment = Ioas.largePagesDisabled.read(memory, ioas) === 0 ? alignmentOfAccesses(kernel, ioas) : Number(PAGE);
  let at: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  for (; at !== NULL; at = IoptDomain.next.peek(memory, at)) {
    alignment = Math.max(alignment, pageBytesOf(kernel, IoptDomain.domain.peek(memory, at)));
  }
  return alignment;
}

/** Reserves `[start, last]` for `owner`. EADDRINUSE when it meets an area or an allowed range, ENOMEM. Under `iovaRwsem`. */
export function reserve(kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint, owner: number): void {
  const memory = kernel.memory;
  if (start > last) return;
  const meetsArea = Ioas.areas.first(memory, ioas, high(start), low(start), high(last), low(last)) !== NULL;
  const meetsAllowed = Ioas.allowed.first(memory, ioas, high(start), low(start), high(last), low(last)) !== NULL;
  if (meetsArea || meetsAllowed) {
    fail('EADDRINUSE', `0x${start.toString(16)}..0x${last.toString(16)} has to be reserved and is ${meetsArea ? 'mapped' : 'allowed'}`);
  }
  allocated(Ioas.reserved.insert(memory, ioas, high(start), low(start), high(last), low(last), owner as Ref));
}

/** Removes every reservation of `owner` (`__iopt_remove_reserved_iova`). Under `iovaRwsem`. */
export function unreserve(kernel: Kernel, ioas: Ref<'Ioas'>, owner: number): void {
  const memory = kernel.memory;
  let node = Ioas.reserved.first(memory, ioas, 0, 0, -1, -1);
  while (node !== NULL) {
    const next = Ioas.reserved.next(memory, ioas, node, 0, 0, -1, -1);
    if (Ioas.reserved.value(memory, node) === owner) Ioas.reserved.remove(memory, ioas, node);
    node = next;
  }
}

/** The ranges that nothing reserves, ascending, over the whole 64-bit space. Under `iovaRwsem`. */
export function iovaHoles(kernel: Kernel, ioas: Ref<'Ioas'>): [bigint, bigint][] {
  const memory = kernel.memory;
  const holes: [bigint, bigint][] = [];
  let free = 0n;
  for (let node = Ioas.reserved.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = Ioas.reserved.next(memory, ioas, node, 0, 0, -1, -1)) {
    const start = big(Ioas.reserved.startHigh(memory, node), Ioas.reserved.startLow(memory, node));
    const last = big(Ioas.reserved.lastHigh(memory, node), Ioas.reserved.lastLow(memory, node));
    if (start > free) holes.push([free, start - 1n]);
    if (last + 1n > free) free = last + 1n;
  }
  if (free <= U64_MAX) holes.push([free, U64_MAX]);
  return holes;
}

/** Replaces the allowed ranges. EADDRINUSE when one meets a reserved range, ENOMEM; then the old ones stay. Under `iovaRwsem`. */
export function replaceAllowed(kernel: Kernel, ioas: Ref<'Ioas'>, ranges: readonly (readonly [bigint, bigint])[]): void {
  const memory = kernel.memory;
  for (const [start, last] of ranges) {
    if (Ioas.reserved.first(memory, ioas, high(start), low(start), high(last), low(last)) !== NULL) fail('EADDRINUSE', 'a reserved range is in the way');
  }
  const old = allowedNodes(kernel, ioas);
  const added: IntervalNode[] = [];
  for (const [start, last] of ranges) {
    const node = Ioas.allowed.insert(memory, ioas, high(start), low(start), high(last), low(last), NULL);
    if (node === NULL) removeAllowed(kernel, ioas, added);
    added.push(allocated(node));
  }
  removeAllowed(kernel, ioas, old);
}

function allowedNodes(kernel: Kernel, ioas: Ref<'Ioas'>): IntervalNode[] {
  const memory = kernel.memory;
  const nodes: IntervalNode[] = [];
  let node = Ioas.allowed.first(memory, ioas, 0, 0, -1, -1);
  for (; node !== NULL; node = Ioas.allowed.next(memory, ioas, node, 0, 0, -1, -1)) nodes.push(node);
  return nodes;
}

function removeAllowed(kernel: Kernel, ioas: Ref<'Ioas'>, nodes: readonly IntervalNode[]): void {
  for (const node of nodes) Ioas.allowed.remove(kernel.memory, ioas, node);
}

const ioasId = (kernel: Kernel, ioas: Ref<'Ioas'>): number =>
  IommufdObject.id.peek(kernel.memory, Ioas.header.peek(kernel.memory, ioas));

const pageBytesOf = (kernel: Kernel, domain: Ref<'IommuDomain'>): number =>
  1 << IommuDomain.smallestPageBits.peek(kernel.memory, domain);

const apertureFirst = (kernel: Kernel, domain: Ref<'IommuDomain'>): bigint =>
  big(IommuDomain.apertureFirstHigh.peek(kernel.memory, domain), IommuDomain.apertureFirstLow.peek(kernel.memory, domain));

const apertureLast = (kernel: Kernel, domain: Ref<'IommuDomain'>): bigint =>
  big(IommuDomain.apertureLastHigh.peek(kernel.memory, domain), IommuDomain.apertureLastLow.peek(kernel.memory, domain));

const firstArea = (kernel: Kernel, ioas: Ref<'Ioas'>): IntervalNode => Ioas.areas.first(kernel.memory, ioas, 0, 0, -1, -1);
const nextArea = (kernel: Kernel, ioas: Ref<'Ioas'>, node: IntervalNode): IntervalNode =>
  Ioas.areas.next(kernel.memory, ioas, node, 0, 0, -1, -1);

export function areaIova(kernel: Kernel, area: Ref<'Area'>): bigint {
  const node = Area.node.peek(kernel.memory, area);
  return big(Ioas.areas.startHigh(kernel.memory, node), Ioas.areas.startLow(kernel.memory, node));
}

export function areaEnd(kernel: Kernel, area: Ref<'Area'>): bigint {
  const node = Area.node.peek(kernel.memory, area);
  return big(Ioas.areas.lastHigh(kernel.memory, node), Ioas.areas.lastLow(kernel.memory, node));
}
