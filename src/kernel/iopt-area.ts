/**
 * An area: one mapping of an IOAS (`struct iopt_area`), from the moment its range is taken.
 *
 * An area whose `pages` is null is being mapped or unmapped: others see its range as taken. It does not know domains.
 */
import { Access } from '#hostmem/page-table-format';
import type { IntervalNode } from '#hostmem/interval-tree';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { AreaGone, AreaPlaced } from './events.ts';
import { Ioas, ioasId, MapFlag } from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { Pages, putPages } from './pages.ts';
import { big, high, low, pageOf, pagesTouched } from './u64.ts';

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
  /** Those of them that are for hardware queues: it cannot be unmapped meanwhile. Of those who hold the guard for reading, one with the pages' mutex changes it. */
  locks: u32.under('ioas.iovaRwsem'),
});

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
  if (memory.history !== null) tellPlaced(kernel, ioas, area);
  return area;
}

function tellPlaced(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  const [count, permissions] = [Area.pageCount.peek(memory, area), Area.permissions.peek(memory, area)];
  AreaPlaced.emit(memory, ioasId(kernel, ioas), areaIovaHigh(kernel, area), areaIovaLow(kernel, area), count, kernel.processNumber, permissions);
}

/** An area in no tree. ENOMEM. */
function createArea(kernel: Kernel, length: bigint, pages: Ref<'Pages'>, startByte: bigint, flags: number): Ref<'Area'> {
  const memory = kernel.memory;
  const area = allocated(Area.tryCreate(memory));
  Area.transit.poke(memory, area, pages);
  Area.pageOffset.poke(memory, area, low(startByte) & 4095);
  Area.firstPage.poke(memory, area, pageOf(startByte));
  Area.pageCount.poke(memory, area, Math.min(pagesTouched(startByte, length), 0x7fffffff));
  const readable = (flags & MapFlag.READABLE) !== 0;
  const writable = (flags & MapFlag.WRITEABLE) !== 0;
  Area.permissions.poke(memory, area, (readable ? Access.READ : 0) | (writable ? Access.WRITE : 0));
  return area;
}

function checkOffset(kernel: Kernel, ioas: Ref<'Ioas'>, startByte: bigint): void {
  const alignment = Ioas.alignment.read(kernel.memory, ioas);
  if ((low(startByte) & (alignment - 1)) !== 0) fail('EINVAL', `user_va is no multiple of ${alignment}`);
}

/** Takes an unfinished area out again (`iopt_abort_area`). */
export function abortArea(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  if (memory.history !== null) tellGone(kernel, ioas, area);
  Ioas.areas.remove(memory, ioas, Area.node.peek(memory, area));
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  freeArea(kernel, area);
}

function tellGone(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  if (Ioas.dying.peek(memory, ioas) !== 0) return;
  const count = Area.pageCount.peek(memory, area);
  AreaGone.emit(memory, ioasId(kernel, ioas), areaIovaHigh(kernel, area), areaIovaLow(kernel, area), count, kernel.processNumber);
}

function freeArea(kernel: Kernel, area: Ref<'Area'>): void {
  putPages(kernel, Area.transit.peek(kernel.memory, area));
  Area.free(kernel.memory, area);
}

export const firstArea = (kernel: Kernel, ioas: Ref<'Ioas'>): IntervalNode => Ioas.areas.first(kernel.memory, ioas, 0, 0, -1, -1);

export const nextArea = (kernel: Kernel, ioas: Ref<'Ioas'>, node: IntervalNode): IntervalNode =>
  Ioas.areas.next(kernel.memory, ioas, node, 0, 0, -1, -1);

/** The two words of `areaIova`. */
export const areaIovaHigh = (kernel: Kernel, area: Ref<'Area'>): number => Ioas.areas.startHigh(kernel.memory, Area.node.peek(kernel.memory, area));
export const areaIovaLow = (kernel: Kernel, area: Ref<'Area'>): number => Ioas.areas.startLow(kernel.memory, Area.node.peek(kernel.memory, area));

export function areaIova(kernel: Kernel, area: Ref<'Area'>): bigint {
  const node = Area.node.peek(kernel.memory, area);
  return big(Ioas.areas.startHigh(kernel.memory, node), Ioas.areas.startLow(kernel.memory, node));
}

export function areaEnd(kernel: Kernel, area: Ref<'Area'>): bigint {
  const node = Area.node.peek(kernel.memory, area);
  return big(Ioas.areas.lastHigh(kernel.memory, node), Ioas.areas.lastLow(kernel.memory, node));
}
