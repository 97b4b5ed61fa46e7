/**
 * The IOAS object and its ioctls (drivers/iommu/iommufd/ioas.c): checks in the kernel's order, then `iopt.ts`.
 */
import { intervalTree } from '#hostmem/interval-tree';
import { mutex, rwsem } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { Capability, capable, Payer } from './accounting.ts';
import { checkReadable, checkWritable, refusesAnswer, refusesCopy, respond, type UserBuffer } from './argument.ts';
import { allocated, Errno, errnoNumber, fail } from './errno.ts';
import { MapCalled, MapReturned, UnmapCalled, UnmapReturned } from './events.ts';
import { mapPages, unmapRange, type Removed } from './iopt.ts';
import { placePages } from './iopt-placement.ts';
import { iovaHoles, replaceAllowed } from './iopt-ranges.ts';
import type { Kernel } from './kernel.ts';
import { abortObject, AccountMode, getObject, Iommufd, IommufdObject, Kind, publishObject, reserveObject } from './objects.ts';
import { createPages, Pages, putPages } from './pages.ts';
import { high, low, offsetInPage, pagesTouched, U64_MAX } from './u64.ts';

export const Ioas = object('Ioas', {
  header: ref('IommufdObject'),
  /** `ioas->mutex`: the list of HWPTs. */
  mutex: mutex,
  hwpts: ref('Hwpt').under('mutex'),
  domainsRwsem: rwsem,
  iovaRwsem: rwsem,
  areas: intervalTree.under('iovaRwsem'),
  reserved: intervalTree.under('iovaRwsem'),
  allowed: intervalTree.under('iovaRwsem'),
  /** What every iova, length and page offset must be a multiple of, in bytes. */
  alignment: u32.under('iovaRwsem'),
  /** Accesses that are attached. */
  accesses: ref('IoptAccess').under('iovaRwsem'),
  domains: ref('IoptDomain').under('domainsRwsem'),
  /** Not 0: nothing but 4 KiB leaves, so that an area can be split. */
  largePagesDisabled: u32.under('domainsRwsem'),
  /** Not 0 in its destructor: its id may be another's by now, so that what becomes of its areas is told to nobody. */
  dying: u32,
});

/** Size of a range in the user's array. */
export const rangeBytes = 16;

export const MapFlag = { FIXED_IOVA: 1, WRITEABLE: 2, READABLE: 4 } as const;

export interface IoasAlloc { flags: number; outIoasId: number }
export interface IoasMap { flags: number; reserved?: number; ioasId: number; userVa: bigint; length: bigint; iova: bigint }
export interface IoasUnmap { ioasId: number; iova: bigint; length: bigint }
export interface IoasIovaRanges extends UserBuffer {
  ioasId: number;
  reserved?: number;
  numIovas: number;
  /** `[start, last]`, as many as `numIovas` had room for. */
  ranges: [bigint, bigint][];
  outIovaAlignment: bigint;
}
export interface IoasAllowIovas extends UserBuffer {
  ioasId: number;
  reserved?: number;
  ranges: readonly (readonly [bigint, bigint])[];
}

/** IOMMU_IOAS_ALLOC: EOPNOTSUPP for flags, ENOMEM. */
export function ioasAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasAlloc): void {
  if (arg.flags !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  const ioas = createIoas(kernel, iommufd);
  const header = Ioas.header.peek(kernel.memory, ioas);
  if (refusesAnswer(kernel, arg)) {
    Ioas.free(kernel.memory, ioas);
    abortObject(kernel, header);
    fail('EFAULT', 'the argument cannot be written');
  }
  arg.outIoasId = publishObject(kernel, header);
}

/** An empty IOAS, not yet published. ENOMEM. */
export function createIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>): Ref<'Ioas'> {
  const memory = kernel.memory;
  const header = reserveObject(kernel, iommufd, Kind.IOAS);
  const ioas = Ioas.tryCreate(memory);
  if (ioas === NULL) abortObject(kernel, header);
  Ioas.header.poke(memory, allocated(ioas), header);
  Ioas.alignment.poke(memory, ioas, 1);
  IommufdObject.body.poke(memory, header, ioas);
  return ioas;
}

/** The destructor: nobody uses it, so no domain is left; its areas go (`iommufd_ioas_destroy`). */
export function destroyIoas(kernel: Kernel, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  Ioas.dying.poke(memory, ioas, 1);
  unmapRange(kernel, ioas, 0n, U64_MAX);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  Ioas.reserved.clear(memory, ioas);
  Ioas.allowed.clear(memory, ioas);
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  const iommufd = IommufdObject.iommufd.peek(memory, Ioas.header.peek(memory, ioas));
  if (Iommufd.compatIoas.peek(memory, iommufd) === ioas) Iommufd.compatIoas.store(memory, iommufd, NULL);
  Ioas.free(memory, ioas);
}

/** The IOAS with this id, held for the rest of the call. ENOENT. */
export function getIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'Ioas'> {
  return IommufdObject.body.peek(kernel.memory, kernel.hold(getObject(kernel, iommufd, id, Kind.IOAS))) as Ref<'Ioas'>;
}

export const ioasId = (kernel: Kernel, ioas: Ref<'Ioas'>): number =>
  IommufdObject.id.peek(kernel.memory, Ioas.header.peek(kernel.memory, ioas));

/** IOMMU_IOAS_MAP, checks 1 to 8 of SEMANTICS a.1. */
export function ioasMap(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasMap): void {
  checkMap(arg);
  const iova = mapUserMemory(kernel, getIoas(kernel, iommufd, arg.ioasId), arg);
  respond(kernel, arg);
  arg.iova = iova;
}

/** Checks 1 to 3. EOPNOTSUPP, EOVERFLOW, EINVAL. */
export function checkMap({ flags, reserved = 0, iova, length }: Pick<IoasMap, 'flags' | 'reserved' | 'iova' | 'length'>): void {
  if ((flags & ~7) !== 0 || reserved !== 0) fail('EOPNOTSUPP', `unknown flags 0x${flags.toString(16)}`);
  if (iova === U64_MAX || length === U64_MAX) fail('EOVERFLOW', 'iova or length is 2^64-1');
  if ((flags & (MapFlag.WRITEABLE | MapFlag.READABLE)) === 0) fail('EINVAL', 'neither readable nor writeable');
}

/** Maps memory of the calling process (`iopt_map_user_pages`): checks 5 to 8. Returns the iova. */
export function mapUserMemory(kernel: Kernel, ioas: Ref<'Ioas'>, arg: IoasMap): bigint {
  const { userVa, length, flags } = arg;
  if (userVa + length > U64_MAX) fail('EOVERFLOW', 'user_va + length wraps');
  if (length === 0n || length > U64_MAX - 4096n) fail('EINVAL', 'length is 0 or too large');
  const pages = createPages(kernel, kernel.process, userVa, length, (flags & MapFlag.WRITEABLE) !== 0);
  Pages.payer.poke(kernel.memory, pages, payerOf(kernel, ioas));
  return mapNewPages(kernel, ioas, pages, BigInt(offsetInPage(userVa)), arg);
}

/** Who pays for what the calling process maps into an IOAS from now on. */
export function payerOf(kernel: Kernel, ioas: Ref<'Ioas'>): Payer {
  if (capable(kernel, Capability.IPC_LOCK)) return Payer.NOBODY;
  const iommufd = IommufdObject.iommufd.peek(kernel.memory, Ioas.header.peek(kernel.memory, ioas));
  return Iommufd.accountMode.load(kernel.memory, iommufd) === AccountMode.USER ? Payer.USER : Payer.PROCESS;
}

/** Maps pages that nothing else maps yet, from `startByte` on: checks 6 to 8, and tells of it. Takes the caller's reference. Returns the iova. */
export function mapNewPages(
  kernel: Kernel, ioas: Ref<'Ioas'>, pages: Ref<'Pages'>, startByte: bigint, arg: Pick<IoasMap, 'flags' | 'ioasId' | 'iova' | 'length'>,
): bigint {
  const { flags, ioasId, iova, length } = arg;
  const count = pagesTouched(0n, length);
  MapCalled.emit(kernel.memory, ioasId, high(iova), low(iova), count, kernel.processNumber);
  let at = iova;
  try {
    at = mapPages(kernel, ioas, placeOrPut(kernel, ioas, pages, startByte, length, (flags & MapFlag.FIXED_IOVA) === 0 ? null : iova, flags));
  } catch (error) {
    if (error instanceof Errno) MapReturned.emit(kernel.memory, ioasId, high(iova), low(iova), count, errnoNumber(error.name), kernel.processNumber);
    throw error;
  }
  MapReturned.emit(kernel.memory, ioasId, high(at), low(at), count, 0, kernel.processNumber);
  return at;
}

function placeOrPut(
  kernel: Kernel, ioas: Ref<'Ioas'>, pages: Ref<'Pages'>, startByte: bigint, length: bigint, at: bigint | null, flags: number,
): Ref<'Area'> {
  try {
    return placePages(kernel, ioas, pages, startByte, length, at, flags);
  } catch (error) {
    putPages(kernel, pages);
    throw error;
  }
}

/** IOMMU_IOAS_UNMAP; `arg.length` becomes the bytes removed, and stays what it was when the call fails. */
export function ioasUnmap(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasUnmap): void {
  const ioas = getIoas(kernel, iommufd, arg.ioasId);
  const all = arg.iova === 0n && arg.length === U64_MAX;
  if (!all) {
    if (arg.iova === U64_MAX || arg.length === U64_MAX) fail('EOVERFLOW', 'iova or length is 2^64-1');
    if (arg.length === 0n) fail('EINVAL', 'length is 0');
    if (arg.iova + arg.length - 1n > U64_MAX) fail('EOVERFLOW', 'iova + length wraps');
  }
  const removed = unmapMappings(kernel, ioas, arg, all);
  if (removed === 0n && !all) fail('ENOENT', `nothing is mapped in ${arg.length} bytes from 0x${arg.iova.toString(16)}`);
  respond(kernel, arg);
  arg.length = removed;
}

/** Unmaps a range, or everything, and tells of it (`iopt_unmap_iova`). Returns the bytes removed. EBUSY, ENOENT for a mapping that sticks out. */
export function unmapMappings(kernel: Kernel, ioas: Ref<'Ioas'>, { ioasId, iova, length }: IoasUnmap, all: boolean, removed: Removed = { bytes: 0n }): bigint {
  const last = all ? U64_MAX : iova + length - 1n;
  const pages = all ? 0 : pagesTouched(0n, length);
  UnmapCalled.emit(kernel.memory, ioasId, high(iova), low(iova), pages, kernel.processNumber);
  let errno = 0;
  try {
    unmapRange(kernel, ioas, iova, last, removed);
    if (removed.bytes === 0n && !all) errno = errnoNumber('ENOENT');
    return removed.bytes;
  } catch (error) {
    errno = error instanceof Errno ? errnoNumber(error.name) : -1;
    throw error;
  } finally {
    if (errno >= 0) UnmapReturned.emit(kernel.memory, ioasId, high(iova), low(iova), pages, errno, kernel.processNumber);
  }
}

/** IOMMU_IOAS_IOVA_RANGES: the holes of the reserved ranges. EFAULT, EMSGSIZE when they are more than there is room for. */
export function ioasIovaRanges(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasIovaRanges): void {
  if ((arg.reserved ?? 0) !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  const ioas = getIoas(kernel, iommufd, arg.ioasId);
  const room = arg.numIovas;
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  const holes = iovaHoles(kernel, ioas);
  const alignment = BigInt(Ioas.alignment.read(kernel.memory, ioas));
  Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  const ranges = holes.slice(0, room);
  checkWritable(arg, ranges.length * rangeBytes);
  if (ranges.some(() => refusesCopy(kernel))) fail('EFAULT', 'the ranges cannot be written');
  respond(kernel, arg);
  arg.outIovaAlignment = alignment;
  arg.numIovas = holes.length;
  arg.ranges = ranges;
  if (holes.length > room) fail('EMSGSIZE', `${holes.length} ranges, room for ${room}`);
}

/** IOMMU_IOAS_ALLOW_IOVAS: replaces the list that automatic placement chooses from; all or nothing. */
export function ioasAllowIovas(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasAllowIovas): void {
  if ((arg.reserved ?? 0) !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  const ioas = getIoas(kernel, iommufd, arg.ioasId);
  // Each is read and judged before the next one is.
  const readable = Math.floor((arg.readableBytes ?? Infinity) / rangeBytes);
  const sorted = arg.ranges.slice(0, readable).toSorted((a, b) => (a[0] < b[0] ? -1 : 1));
  for (const [index, [start, last]] of sorted.entries()) {
    if (start >= last) fail('EINVAL', `range 0x${start.toString(16)}..0x${last.toString(16)} is empty or one byte`);
    const next = sorted[index + 1];
    if (next !== undefined && next[0] <= last) fail('EINVAL', 'two ranges overlap');
  }
  checkReadable(arg, arg.ranges.length * rangeBytes);
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  try {
    replaceAllowed(kernel, ioas, sorted);
  } finally {
    Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  }
}

