/**
 * Where a mapping goes in an IOAS: at an iova of the caller's choice, or at the lowest that fits (`iopt_alloc_area_pages`).
 */
import { NULL, type Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { Ioas, MapFlag } from './ioas.ts';
import { checkOffset, insertArea } from './iopt-area.ts';
import { allowedNodes } from './iopt-ranges.ts';
import type { Kernel } from './kernel.ts';
import { createPages, putPages } from './pages.ts';
import { big, high, low, lowestSetBit, PAGE, roundUpPowerOfTwo, U64_MAX } from './u64.ts';

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
