/**
 * IOMMU_IOAS_COPY (`iommufd_ioas_copy`): maps what another IOAS maps. The pages are shared, so that what is pinned is accounted
 * once; the copy outlives its source.
 */
import { NULL, type Ref } from '#hostmem/object';
import { respond } from './argument.ts';
import { Errno, errnoNumber, fail } from './errno.ts';
import { MapCalled, MapReturned } from './events.ts';
import { getIoas, Ioas, MapFlag } from './ioas.ts';
import { mapAreas } from './iopt.ts';
import { abortArea, Area, areaEnd, areaIova, insertArea } from './iopt-area.ts';
import { choosePlace } from './iopt-placement.ts';
import type { Kernel } from './kernel.ts';
import { holdPages, putPages } from './pages.ts';
import { high, low, PAGE, U64_MAX } from './u64.ts';

export interface IoasCopy { flags: number; dstIoasId: number; srcIoasId: number; length: bigint; dstIova: bigint; srcIova: bigint }

/** Bytes of pages, from one of theirs on; holds a reference to them. */
interface Stretch {
  readonly pages: Ref<'Pages'>;
  readonly startByte: bigint;
  readonly length: bigint;
}

/** EOPNOTSUPP, EOVERFLOW, EINVAL, ENOENT, then as IOAS_MAP, and EPERM for writing to pages that were mapped read-only. */
export function ioasCopy(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasCopy): void {
  if ((arg.flags & ~7) !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  if (arg.length === U64_MAX || arg.dstIova === U64_MAX || arg.srcIova === U64_MAX) fail('EOVERFLOW', 'a length or iova of 2^64-1');
  if ((arg.flags & (MapFlag.WRITEABLE | MapFlag.READABLE)) === 0) fail('EINVAL', 'neither readable nor writeable');
  const stretches = getStretches(kernel, getIoas(kernel, iommufd, arg.srcIoasId), arg.srcIova, arg.length);
  try {
    copyTo(kernel, iommufd, arg, stretches);
  } finally {
    for (const { pages } of stretches) putPages(kernel, pages);
  }
}

/** What back-to-back areas map in the range (`iopt_get_pages`). EINVAL, EOVERFLOW, ENOENT for a hole. */
function getStretches(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint): Stretch[] {
  if (length === 0n) fail('EINVAL', 'length is 0');
  const last = iova + length - 1n;
  if (last > U64_MAX) fail('EOVERFLOW', 'iova + length wraps');
  const found: Stretch[] = [];
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  for (let at = iova; at <= last; ) {
    const stretch = stretchAt(kernel, ioas, at, last);
    if (stretch === null) break;
    found.push(stretch);
    at += stretch.length;
  }
  Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  if (found.reduce((sum, stretch) => sum + stretch.length, 0n) === length) return found;
  for (const { pages } of found) putPages(kernel, pages);
  return fail('ENOENT', 'the source has a hole');
}

/** What the area at an iova maps, no further than `last`; null without a finished area. Under `iovaRwsem`. */
function stretchAt(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, last: bigint): Stretch | null {
  const memory = kernel.memory;
  const node = Ioas.areas.first(memory, ioas, high(iova), low(iova), high(iova), low(iova));
  if (node === NULL) return null;
  const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
  const pages = Area.pages.read(memory, area);
  if (pages === NULL) return null;
  holdPages(kernel, pages);
  const areaStart = BigInt(Area.firstPage.peek(memory, area)) * PAGE + BigInt(Area.pageOffset.peek(memory, area));
  const end = areaEnd(kernel, area) < last ? areaEnd(kernel, area) : last;
  return { pages, startByte: areaStart + (iova - areaIova(kernel, area)), length: end - iova + 1n };
}

function copyTo(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasCopy, stretches: readonly Stretch[]): void {
  const ioas = getIoas(kernel, iommufd, arg.dstIoasId);
  const pages = Number((arg.length + PAGE - 1n) >> 12n);
  MapCalled.emit(kernel.memory, arg.dstIoasId, high(arg.dstIova), low(arg.dstIova), pages, kernel.processNumber);
  let errno = 0;
  try {
    const areas = placeStretches(kernel, ioas, arg, stretches);
    const iova = areaIova(kernel, areas[0]!);
    mapAreas(kernel, ioas, areas);
    respond(kernel, arg);
    arg.dstIova = iova;
  } catch (error) {
    errno = error instanceof Errno ? errnoNumber(error.name) : -1;
    throw error;
  } finally {
    if (errno >= 0) MapReturned.emit(kernel.memory, arg.dstIoasId, high(arg.dstIova), low(arg.dstIova), pages, errno, kernel.processNumber);
  }
}

/** One unfinished area a stretch, side by side (`iopt_alloc_area_pages`). */
function placeStretches(kernel: Kernel, ioas: Ref<'Ioas'>, arg: IoasCopy, stretches: readonly Stretch[]): Ref<'Area'>[] {
  const placed: Ref<'Area'>[] = [];
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  try {
    const { pages: firstPages, startByte: firstByte } = stretches[0]!;
    const at = (arg.flags & MapFlag.FIXED_IOVA) === 0 ? null : arg.dstIova;
    let iova = choosePlace(kernel, ioas, firstPages, firstByte, arg.length, at);
    for (const { pages, startByte, length } of stretches) {
      placed.push(insertArea(kernel, ioas, iova, length, pages, startByte, arg.flags));
      holdPages(kernel, pages);
      iova += length;
    }
    Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  } catch (error) {
    Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
    for (const area of placed) abortArea(kernel, ioas, area);
    throw error;
  }
  return placed;
}
