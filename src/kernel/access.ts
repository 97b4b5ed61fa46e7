/**
 * ACCESS objects: the kernel's own way into an IOAS, for devices whose DMA is done by software (`iommufd_access_*`, device.c; SEMANTICS
 * a.4). An access pins pages or copies bytes; an unmap of pinned pages calls its owner back, with the locks dropped.
 */
import { mutex } from '#hostmem/locks';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { checkAlignment, wantedAlignment } from './iopt-alignment.ts';
import { Area, areaEnd, areaIova } from './iopt-area.ts';
import type { Kernel } from './kernel.ts';
import {
  abortObject, addUser, dropUser, dropUserAndDestroy, getObject, holdIommufd, IommufdObject, Kind, lockObject, publishObject, putIommufd, putObject, reserveObject,
} from './objects.ts';
import { isDmabuf } from './page-source.ts';
import { addFill, copyPages, dropFill, Pages, pinnedFrame, type Copy } from './pages.ts';
import { unmapTestAccess } from './selftest/test-access.ts';
import { high, low, PAGE, U64_MAX } from './u64.ts';

export const Access = object('Access', {
  header: ref('IommufdObject'),
  iommufd: ref('Iommufd'),
  lock: mutex,
  /** Where pins and copies go; null while detached or being replaced. */
  ioas: ref('Ioas').under('lock'),
  /** Where what is pinned was pinned. */
  ioasOfPins: ref('Ioas').under('lock'),
  /** Its owner pins pages, and is told when they are unmapped. */
  pins: u32,
  owner: ref('TestAccess'),
});

/** An access of an IOAS; during a replace one access is in two. */
export const IoptAccess = object('IoptAccess', { access: ref('Access'), next: ref('IoptAccess') });

/** A new access, attached to nothing, held by its owner (`iommufd_access_create`). ENOMEM. */
export function createAccess(kernel: Kernel, iommufd: Ref<'Iommufd'>, pins: boolean, owner: Ref<'TestAccess'>): Ref<'Access'> {
  const memory = kernel.memory;
  const header = reserveObject(kernel, iommufd, Kind.ACCESS);
  const access = Access.tryCreate(memory);
  if (access === NULL) abortObject(kernel, header);
  Access.header.poke(memory, allocated(access), header);
  Access.iommufd.poke(memory, access, iommufd);
  Access.pins.poke(memory, access, pins ? 1 : 0);
  Access.owner.poke(memory, access, owner);
  IommufdObject.body.poke(memory, header, access);
  addUser(kernel, header);
  holdIommufd(kernel, iommufd);
  publishObject(kernel, header);
  return access;
}

/** Detaches it and destroys the object (`iommufd_access_destroy`). Cannot fail. */
export function removeAccess(kernel: Kernel, access: Ref<'Access'>): void {
  const iommufd = Access.iommufd.peek(kernel.memory, access);
  dropUserAndDestroy(kernel, Access.header.peek(kernel.memory, access));
  putIommufd(kernel, iommufd);
}

/** The destructor (`iommufd_access_destroy_object`). */
export function destroyAccess(kernel: Kernel, access: Ref<'Access'>): void {
  Access.lock.acquire(kernel.memory, access);
  if (Access.ioas.read(kernel.memory, access) !== NULL) change(kernel, access, NULL);
  Access.lock.release(kernel.memory, access);
  Access.free(kernel.memory, access);
}

/** EINVAL when it is attached, ENOENT, and EADDRINUSE when something mapped does not fit its alignment. */
export function attachAccess(kernel: Kernel, access: Ref<'Access'>, ioasId: number): void {
  Access.lock.acquire(kernel.memory, access);
  try {
    if (Access.ioasOfPins.read(kernel.memory, access) !== NULL) fail('EINVAL', 'the access is attached');
    changeToId(kernel, access, ioasId);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

/** Its pins are lost through the owner's callback. ENOENT, also for an access that is not attached, and EADDRINUSE. */
export function replaceAccess(kernel: Kernel, access: Ref<'Access'>, ioasId: number): void {
  Access.lock.acquire(kernel.memory, access);
  try {
    if (Access.ioas.read(kernel.memory, access) === NULL) fail('ENOENT', 'the access is not attached');
    changeToId(kernel, access, ioasId);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

function changeToId(kernel: Kernel, access: Ref<'Access'>, ioasId: number): void {
  const memory = kernel.memory;
  const target = getObject(kernel, Access.iommufd.peek(memory, access), ioasId, Kind.IOAS);
  try {
    change(kernel, access, IommufdObject.body.peek(memory, target) as Ref<'Ioas'>);
  } finally {
    putObject(kernel, target);
  }
}

/**
 * From one IOAS to another, or to none (`iommufd_access_change_ioas`). Under `Access.lock`, which is dropped for the owner's callback:
 * meanwhile the access has no IOAS, and only unpins.
 */
function change(kernel: Kernel, access: Ref<'Access'>, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  const old = Access.ioas.read(memory, access);
  if (old !== Access.ioasOfPins.read(memory, access)) fail('EBUSY', 'the access is being moved');
  if (old === ioas) return;
  Access.ioas.write(memory, access, NULL);
  try {
    if (ioas !== NULL) addToIoas(kernel, ioas, access);
  } catch (error) {
    Access.ioas.write(memory, access, old);
    throw error;
  }
  if (old !== NULL) leave(kernel, access, old);
  Access.ioasOfPins.write(memory, access, ioas);
  Access.ioas.write(memory, access, ioas);
}

function leave(kernel: Kernel, access: Ref<'Access'>, old: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  if (Access.pins.peek(memory, access) !== 0) {
    Access.lock.release(memory, access);
    unmapTestAccess(kernel, Access.owner.peek(memory, access), 0n, U64_MAX);
    Access.lock.acquire(memory, access);
  }
  removeFromIoas(kernel, old, access);
}

/** Joins the IOAS's list; one that pins needs whole pages (`iopt_add_access`). EADDRINUSE, ENOMEM. */
function addToIoas(kernel: Kernel, ioas: Ref<'Ioas'>, access: Ref<'Access'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const alignment = Math.max(Ioas.alignment.read(memory, ioas), Access.pins.peek(memory, access) === 0 ? 1 : Number(PAGE));
    checkAlignment(kernel, ioas, alignment);
    const link = allocated(IoptAccess.tryCreate(memory));
    IoptAccess.access.poke(memory, link, access);
    IoptAccess.next.poke(memory, link, Ioas.accesses.read(memory, ioas));
    Ioas.accesses.write(memory, ioas, link);
    Ioas.alignment.write(memory, ioas, alignment);
    addUser(kernel, Ioas.header.peek(memory, ioas));
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
    Ioas.domainsRwsem.releaseWrite(memory, ioas);
  }
}

function removeFromIoas(kernel: Kernel, ioas: Ref<'Ioas'>, access: Ref<'Access'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  let before: Ref<'IoptAccess'> = NULL;
  let link: Ref<'IoptAccess'> = Ioas.accesses.read(memory, ioas);
  while (IoptAccess.access.peek(memory, link) !== access) {
    before = link;
    link = IoptAccess.next.peek(memory, link);
  }
  const next = IoptAccess.next.peek(memory, link);
  if (before === NULL) Ioas.accesses.write(memory, ioas, next);
  else IoptAccess.next.poke(memory, before, next);
  IoptAccess.free(memory, link);
  Ioas.alignment.write(memory, ioas, wantedAlignment(kernel, ioas));
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  Ioas.domainsRwsem.releaseWrite(memory, ioas);
  dropUser(kernel, Ioas.header.peek(memory, ioas));
}

/** The largest alignment that an access of the IOAS asks for. Under `iovaRwsem`. */
export function alignmentOfAccesses(kernel: Kernel, ioas: Ref<'Ioas'>): number {
  let link: Ref<'IoptAccess'> = Ioas.accesses.read(kernel.memory, ioas);
  for (; link !== NULL; link = IoptAccess.next.peek(kernel.memory, link)) {
    if (Access.pins.peek(kernel.memory, IoptAccess.access.peek(kernel.memory, link)) !== 0) return Number(PAGE);
  }
  return 1;
}

/** Asks every access that pins to let go of a range (`iommufd_access_notify_unmap`). No lock of the IOAS is held. */
export function notifyAccesses(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint): void {
  const memory = kernel.memory;
  const held: Ref<'Access'>[] = [];
  Ioas.iovaRwsem.acquireRead(memory, ioas);
  for (let link: Ref<'IoptAccess'> = Ioas.accesses.read(memory, ioas); link !== NULL; link = IoptAccess.next.peek(memory, link)) {
    const access = IoptAccess.access.peek(memory, link);
    if (Access.pins.peek(memory, access) !== 0 && lockObject(kernel, Access.header.peek(memory, access))) held.push(access);
  }
  Ioas.iovaRwsem.releaseRead(memory, ioas);
  for (const access of held) {
    unmapTestAccess(kernel, Access.owner.peek(memory, access), iova, length);
    putObject(kernel, Access.header.peek(memory, access));
  }
}

/** A stretch of an area that a call reaches. */
interface Reach {
  readonly area: Ref<'Area'>;
  readonly pages: Ref<'Pages'>;
  /** Bytes from the start of the pages. */
  readonly startByte: bigint;
  readonly length: bigint;
}

/**
 * Pins the pages behind `[iova, iova + length)` until they are unpinned (`iommufd_access_pin_pages`) and returns their frames. EINVAL, EOVERFLOW, ENOENT for a hole or an
 * access that is not attached, EPERM, EFAULT, ENOMEM; then nothing is pinned.
 */
export function pinThroughAccess(kernel: Kernel, access: Ref<'Access'>, iova: bigint, length: bigint, way: Copy): Frame[] {
  checkRange(iova, length);
  Access.lock.acquire(kernel.memory, access);
  const ioas = Access.ioas.read(kernel.memory, access);
  try {
    if (ioas === NULL) fail('ENOENT', 'the access is not attached');
    return pinReaches(kernel, ioas, iova, iova + length - 1n, way);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

/** Pins in an IOAS, stretch by stretch, or nothing. */
export function pinReaches(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, last: bigint, way: Copy): Frame[] {
  const frames: Frame[] = [];
  const done: Reach[] = [];
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  try {
    for (let at = iova; at <= last; ) {
      const reach = reachAt(kernel, ioas, at, last);
      checkPinnable(kernel, reach, at + reach.length > last);
      checkPermission(kernel, reach, way);
      pinReach(kernel, reach, frames);
      done.push(reach);
      at += reach.length;
    }
    return frames;
  } catch (error) {
    for (const reach of done) unpinReach(kernel, reach);
    throw error;
  } finally {
    Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  }
}

function pinReach(kernel: Kernel, reach: Reach, frames: Frame[]): void {
  const { pages, area } = reach;
  const { first, count } = pagesOf(reach);
  if (isDmabuf(kernel, pages)) fail('EINVAL', 'a dma-buf is not pinned for software');
  Pages.mutex.acquire(kernel.memory, pages);
  try {
    addFill(kernel, pages, first, count);
    for (let page = first; page < first + count; page++) frames.push(pinnedFrame(kernel, pages, page));
    Area.accesses.add(kernel.memory, area, 1);
  } finally {
    Pages.mutex.release(kernel.memory, pages);
  }
}

function unpinReach(kernel: Kernel, reach: Reach): void {
  const { first, count } = pagesOf(reach);
  Pages.mutex.acquire(kernel.memory, reach.pages);
  dropFill(kernel, reach.pages, first, count);
  Area.accesses.add(kernel.memory, reach.area, -1);
  Pages.mutex.release(kernel.memory, reach.pages);
}

function pagesOf({ startByte, length }: Reach): { first: number; count: number } {
  const first = startByte / PAGE;
  return { first: Number(first), count: Number((startByte + length - 1n) / PAGE - first) + 1 };
}

/** Undoes a pin of exactly this range (`iommufd_access_unpin_pages`). */
export function unpinThroughAccess(kernel: Kernel, access: Ref<'Access'>, iova: bigint, length: bigint): void {
  const memory = kernel.memory;
  Access.lock.acquire(memory, access);
  const ioas = Access.ioasOfPins.read(memory, access);
  Ioas.iovaRwsem.acquireRead(memory, ioas);
  for (let at = iova; at < iova + length; ) {
    const reach = reachAt(kernel, ioas, at, iova + length - 1n);
    unpinReach(kernel, reach);
    at += reach.length;
  }
  Ioas.iovaRwsem.releaseRead(memory, ioas);
  Access.lock.release(memory, access);
}

/**
 * Copies between a buffer and the pages behind an IOVA; what was copied before an error stays. Errors as of a pin, but for alignment.
 */
export function copyThroughAccess(kernel: Kernel, access: Ref<'Access'>, iova: bigint, buffer: Uint8Array, way: Copy): void {
  checkRange(iova, BigInt(buffer.length));
  const last = iova + BigInt(buffer.length) - 1n;
  Access.lock.acquire(kernel.memory, access);
  const ioas = Access.ioas.read(kernel.memory, access);
  try {
    if (ioas === NULL) fail('ENOENT', 'the access is not attached');
    copyReaches(kernel, ioas, iova, last, buffer, way);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

function copyReaches(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, last: bigint, buffer: Uint8Array, way: Copy): void {
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  try {
    for (let at = iova; at <= last; ) {
      const reach = reachAt(kernel, ioas, at, last);
      if (Area.preventAccess.load(kernel.memory, reach.area) !== 0) fail('EINVAL', 'the area is being unmapped');
      checkPermission(kernel, reach, way);
      const from = Number(at - iova);
      copyPages(kernel, reach.pages, reach.startByte, buffer.subarray(from, from + Number(reach.length)), way);
      at += reach.length;
    }
  } finally {
    Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  }
}

export function checkRange(iova: bigint, length: bigint): void {
  if (length === 0n) fail('EINVAL', 'length is 0');
  if (iova + length - 1n > U64_MAX) fail('EOVERFLOW', 'iova + length wraps');
}

/** The finished area at an IOVA, no further than `last`. ENOENT. Under `iovaRwsem`. */
function reachAt(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, last: bigint): Reach {
  const memory = kernel.memory;
  const node = Ioas.areas.first(memory, ioas, high(iova), low(iova), high(iova), low(iova));
  const area = node === NULL ? NULL : (Ioas.areas.value(memory, node) as Ref<'Area'>);
  const pages = area === NULL ? NULL : Area.pages.read(memory, area);
  if (pages === NULL) fail('ENOENT', `nothing is mapped at 0x${iova.toString(16)}`);
  const areaStart = BigInt(Area.firstPage.peek(memory, area)) * PAGE + BigInt(Area.pageOffset.peek(memory, area));
  const end = areaEnd(kernel, area) < last ? areaEnd(kernel, area) : last;
  return { area, pages, startByte: areaStart + (iova - areaIova(kernel, area)), length: end - iova + 1n };
}

/** A pin begins at the start of a page and, unless it is the last stretch, ends with one (`check_area_prot`). */
function checkPinnable(kernel: Kernel, { area, startByte, length }: Reach, isLast: boolean): void {
  const aligned = startByte % PAGE === 0n && (isLast || (startByte + length) % PAGE === 0n);
  if (Area.preventAccess.load(kernel.memory, area) !== 0 || !aligned) fail('EINVAL', 'the area is being unmapped, or not aligned to pages');
}

const READ = 1;
const WRITE = 2;

function checkPermission(kernel: Kernel, { area, pages }: Reach, { write }: Copy): void {
  const permissions = Area.permissions.peek(kernel.memory, area);
  if ((permissions & (write ? WRITE : READ)) === 0) fail('EPERM', `the area is not ${write ? 'writeable' : 'readable'}`);
  if (write && Pages.writable.peek(kernel.memory, pages) === 0) fail('EPERM', 'the pages are not writeable');
}
