/**
 * What software does with the pages behind an IOVA, through an access: pins them until it unpins them, or copies bytes
 * (`iommufd_access_pin_pages`, `iommufd_access_rw`, device.c; SEMANTICS a.4).
 */
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { Access, isInternal } from './access.ts';
import { fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { Area, areaEnd, areaIova } from './iopt-area.ts';
import type { Kernel } from './kernel.ts';
import { isDmabuf } from './page-source.ts';
import { addFill, copyPages, dropFill, Pages, pinnedFrame, type Copy } from './pages.ts';
import { high, low, PAGE, U64_MAX } from './u64.ts';

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
    return pinReaches(kernel, access, ioas, iova, iova + length - 1n, way);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

/** Pins in an IOAS, stretch by stretch, or nothing. */
export function pinReaches(kernel: Kernel, access: Ref<'Access'>, ioas: Ref<'Ioas'>, iova: bigint, last: bigint, way: Copy): Frame[] {
  const locks = isInternal(kernel, access) ? 1 : 0;
  const frames: Frame[] = [];
  const done: Reach[] = [];
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  try {
    for (let at = iova; at <= last; ) {
      const reach = reachAt(kernel, ioas, at, last);
      checkPinnable(kernel, reach, at + reach.length > last);
      checkPermission(kernel, reach, way);
      pinReach(kernel, reach, locks, frames);
      done.push(reach);
      at += reach.length;
    }
    return frames;
  } catch (error) {
    for (const reach of done) unpinReach(kernel, reach, locks);
    throw error;
  } finally {
    Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  }
}

/** `locks`: how many more keep the area from being unmapped (`iopt_area_add_access`). */
function pinReach(kernel: Kernel, reach: Reach, locks: number, frames: Frame[]): void {
  const { pages, area } = reach;
  const { first, count } = pagesOf(reach);
  if (isDmabuf(kernel, pages)) fail('EINVAL', 'a dma-buf is not pinned for software');
  Pages.mutex.acquire(kernel.memory, pages);
  try {
    addFill(kernel, pages, first, count);
    for (let page = first; page < first + count; page++) frames.push(pinnedFrame(kernel, pages, page));
    Area.accesses.add(kernel.memory, area, 1);
    Area.locks.write(kernel.memory, area, Area.locks.read(kernel.memory, area) + locks);
  } finally {
    Pages.mutex.release(kernel.memory, pages);
  }
}

function unpinReach(kernel: Kernel, reach: Reach, locks: number): void {
  const { first, count } = pagesOf(reach);
  Pages.mutex.acquire(kernel.memory, reach.pages);
  dropFill(kernel, reach.pages, first, count);
  Area.accesses.add(kernel.memory, reach.area, -1);
  Area.locks.write(kernel.memory, reach.area, Area.locks.read(kernel.memory, reach.area) - locks);
  Pages.mutex.release(kernel.memory, reach.pages);
}

function pagesOf({ startByte, length }: Reach): { first: number; count: number } {
  const first = startByte / PAGE;
  return { first: Number(first), count: Number((startByte + length - 1n) / PAGE - first) + 1 };
}

/** Undoes a pin of exactly this range (`iommufd_access_unpin_pages`). */
export function unpinThroughAccess(kernel: Kernel, access: Ref<'Access'>, iova: bigint, length: bigint): void {
  const memory = kernel.memory;
  const locks = isInternal(kernel, access) ? 1 : 0;
  Access.lock.acquire(memory, access);
  const ioas = Access.ioasOfPins.read(memory, access);
  Ioas.iovaRwsem.acquireRead(memory, ioas);
  for (let at = iova; at < iova + length; ) {
    const reach = reachAt(kernel, ioas, at, iova + length - 1n);
    unpinReach(kernel, reach, locks);
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
