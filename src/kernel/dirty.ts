/**
 * Dirty tracking of an HWPT (`iommufd_hwpt_set_dirty_tracking`, `iommufd_hwpt_get_dirty_bitmap`), checks in the kernel's order.
 *
 * Three faults of 7.2 are here: K1, a query ends at the first hole without an error; K1b, what cannot be stored in the bitmap is cleared
 * all the same; K6, enabling once more forgets what was written.
 */
import { pageBytes } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { IommuDomain } from '../drivers/domain.ts';
import type { DirtyRanges } from '../drivers/driver.ts';
import type { UserBuffer } from './argument.ts';
import { fail } from './errno.ts';
import { DirtyAnswered, DirtyQueried, DirtyReported, DirtyTracked } from './events.ts';
import { Hwpt } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { Area, areaEnd, areaIova } from './iopt-area.ts';
import type { Kernel } from './kernel.ts';
import { getObject, IommufdObject, Kind } from './objects.ts';
import { high, low, lowestSetBit, PAGE, U64_MAX } from './u64.ts';

export interface SetDirtyTracking { flags: number; hwptId: number }
export interface GetDirtyBitmap extends UserBuffer {
  hwptId: number;
  flags: number;
  reserved?: number;
  iova: bigint;
  length: bigint;
  pageSize: bigint;
  /** Bits are or-ed into it, the lowest of a byte first; absent, it lies where nothing can be written. */
  bitmap?: Uint8Array;
}

const ENABLE = 1;
const NO_CLEAR = 1;

function getHwpt(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'Hwpt'> {
  return IommufdObject.body.peek(kernel.memory, kernel.hold(getObject(kernel, iommufd, id, Kind.HWPT))) as Ref<'Hwpt'>;
}

/** EOPNOTSUPP, ENOENT. The reserved field is not examined in 7.2. */
export function setDirtyTracking(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: SetDirtyTracking): void {
  const memory = kernel.memory;
  if ((arg.flags & ~ENABLE) !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  const hwpt = getHwpt(kernel, iommufd, arg.hwptId);
  const domain = Hwpt.domain.peek(memory, hwpt);
  const ioas = Hwpt.ioas.peek(memory, hwpt);
  const { setDirtyTracking: set } = kernel.driver;
  if (IommuDomain.dirtyTracking.peek(memory, domain) === 0 || set === undefined) fail('EOPNOTSUPP', 'the HWPT was made without dirty tracking');
  const enable = (arg.flags & ENABLE) !== 0;
  Ioas.iovaRwsem.acquireRead(memory, ioas);
  try {
    // K6: 7.2 forgets what was written also when tracking is on.
    const forget = Hwpt.tracking.load(memory, hwpt) === 0 || kernel.operations.faults.secondEnableLosesDirt;
    if (enable && forget) clearAll(kernel, ioas, domain);
    const problem = kernel.driver.setDirtyTracking!(domain, enable);
    if (problem !== 0) fail(problem, 'the driver cannot switch dirty tracking');
    Hwpt.tracking.store(memory, hwpt, enable ? 1 : 0);
    DirtyTracked.emit(memory, IommuDomain.root.peek(memory, domain), enable ? 1 : 0);
  } finally {
    Ioas.iovaRwsem.releaseRead(memory, ioas);
  }
}

/** `iopt_clear_dirty_data`. Under `iovaRwsem`. */
function clearAll(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  let node = Ioas.areas.first(memory, ioas, 0, 0, -1, -1);
  for (; node !== NULL; node = Ioas.areas.next(memory, ioas, node, 0, 0, -1, -1)) {
    const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
    if (Area.pages.read(memory, area) === NULL) continue;
    const iova = areaIova(kernel, area);
    kernel.driver.readAndClearDirty?.(domain, iova, areaEnd(kernel, area) - iova + 1n, true, { iovas: [], lengths: [] });
  }
}

/** EOPNOTSUPP, ENOENT, EOVERFLOW, EINVAL; with K1b mended, EFAULT. */
export function getDirtyBitmap(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: GetDirtyBitmap): void {
  const memory = kernel.memory;
  if ((arg.flags & ~NO_CLEAR) !== 0 || (arg.reserved ?? 0) !== 0) fail('EOPNOTSUPP', 'unknown flags or a reserved field');
  const hwpt = getHwpt(kernel, iommufd, arg.hwptId);
  const ioas = Hwpt.ioas.peek(memory, hwpt);
  checkRange(arg, alignmentOf(kernel, ioas));
  const domain = Hwpt.domain.peek(memory, hwpt);
  if (IommuDomain.dirtyTracking.peek(memory, domain) === 0) fail('EOPNOTSUPP', 'the HWPT was made without dirty tracking');
  const room = refusesPins(kernel, arg) ? 0 : writableBytes(arg);
  if (!kernel.operations.faults.dirtyBitmapFaultLosesDirt && bytesNeeded(arg) > room) fail('EFAULT', 'the bitmap cannot be written');
  const begin = tellBegin(kernel, domain, arg);
  Ioas.iovaRwsem.acquireRead(memory, ioas);
  const found = readDirty(kernel, ioas, domain, arg);
  Ioas.iovaRwsem.releaseRead(memory, ioas);
  for (const [index, iova] of found.iovas.entries()) setBits(arg, room, iova, found.lengths[index]!);
  tellEnd(kernel, domain, arg, room, found, begin);
}

const clears = ({ flags }: GetDirtyBitmap): boolean => (flags & NO_CLEAR) === 0;
const pagesOf = (bytes: bigint): number => Number(BigInt.asIntN(32, (bytes + PAGE - 1n) / PAGE));

function tellBegin({ memory }: Kernel, domain: Ref<'IommuDomain'>, arg: GetDirtyBitmap): number {
  if (memory.history === null || !clears(arg)) return 0;
  DirtyQueried.emit(memory, IommuDomain.root.peek(memory, domain), high(arg.iova), low(arg.iova), pagesOf(arg.length));
  return memory.history.stamp();
}

/** What was found and has reached the user's bitmap. */
function tellEnd({ memory }: Kernel, domain: Ref<'IommuDomain'>, arg: GetDirtyBitmap, room: number, found: DirtyRanges, begin: number): void {
  if (memory.history === null || !clears(arg)) return;
  const root = IommuDomain.root.peek(memory, domain);
  const stored = arg.iova + BigInt(room) * 8n * granuleOf(arg);
  for (let index = 0; index < found.iovas.length; ) {
    const iova = found.iovas[index]!;
    let end = iova;
    for (; found.iovas[index] === end && end < stored; index++) end += found.lengths[index]!;
    if (end === iova) break;
    DirtyReported.emit(memory, root, high(iova), low(iova), pagesOf(end - iova));
  }
  DirtyAnswered.emit(memory, root, high(arg.iova), low(arg.iova), pagesOf(arg.length), begin);
}

function checkRange({ iova, length, pageSize }: GetDirtyBitmap, alignment: bigint): void {
  const end = (iova + length) & U64_MAX;
  const wraps = length === 0n ? iova !== 0n : iova + length - 1n > U64_MAX;
  if (wraps) fail('EOVERFLOW', 'iova + length wraps');
  if (iova % alignment !== 0n || end % alignment !== 0n) fail('EINVAL', `the range is not aligned to ${alignment}`);
  if (pageSize === 0n) fail('EINVAL', 'the page size is 0');
  if (((iova | end) & (pageSize - 1n)) !== 0n) fail('EINVAL', 'the range is not aligned to the page size');
}

/** What the domain says of the areas in the range, back to back from its start. Under `iovaRwsem`. */
function readDirty(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>, arg: GetDirtyBitmap): DirtyRanges {
  const { iova, length } = arg;
  const memory = kernel.memory;
  const found: DirtyRanges = { iovas: [], lengths: [] };
  const last = length === 0n ? U64_MAX : iova + length - 1n;
  let node = Ioas.areas.first(memory, ioas, high(iova), low(iova), high(last), low(last));
  let at = iova;
  for (; node !== NULL; node = Ioas.areas.next(memory, ioas, node, high(iova), low(iova), high(last), low(last))) {
    const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
    const start = areaIova(kernel, area) > iova ? areaIova(kernel, area) : iova;
    const isHole = start > at || Area.pages.read(memory, area) === NULL;
    // K1: 7.2 ends the query at the first hole, without an error.
    if (isHole && kernel.operations.faults.dirtyHoleStops) return found;
    const end = areaEnd(kernel, area) < last ? areaEnd(kernel, area) : last;
    if (Area.pages.read(memory, area) !== NULL) kernel.driver.readAndClearDirty?.(domain, start, end - start + 1n, clears(arg), found);
    at = end + 1n;
  }
  return found;
}

/** A page size that is no power of two counts as its lowest bit (`iova_bitmap_alloc`). */
const granuleOf = ({ pageSize }: GetDirtyBitmap): bigint => lowestSetBit(pageSize);

const writableBytes = ({ bitmap, writableBytes: bytes }: GetDirtyBitmap): number => (bitmap === undefined ? 0 : bytes ?? bitmap.length);

function bytesNeeded(arg: GetDirtyBitmap): number {
  const pages = arg.length / granuleOf(arg);
  return Number((pages + 7n) / 8n);
}

/** Whether some page of the bitmap cannot be pinned, though it is there. */
function refusesPins({ memory: { faults } }: Kernel, arg: GetDirtyBitmap): boolean {
  if (faults === null) return false;
  for (let page = 0; page < bytesNeeded(arg); page += pageBytes) if (faults.refuses('a pin')) return true;
  return false;
}

/** Sets the bits of every page that the range meets, in the `room` bytes that can be written: the rest is lost (K1b). */
function setBits(arg: GetDirtyBitmap, room: number, iova: bigint, length: bigint): void {
  const granule = granuleOf(arg);
  const start = iova > arg.iova ? iova - arg.iova : 0n;
  const lastPage = Number((iova + length - 1n - arg.iova) / granule);
  const end = Math.min(lastPage, room * 8 - 1);
  for (let page = Number(start / granule); page <= end; page++) arg.bitmap![page >> 3]! |= 1 << (page & 7);
}

function alignmentOf(kernel: Kernel, ioas: Ref<'Ioas'>): bigint {
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  const alignment = Ioas.alignment.read(kernel.memory, ioas);
  Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  return BigInt(alignment);
}
