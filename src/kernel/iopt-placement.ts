/**
 * Where a mapping goes in an IOAS: at an iova of the caller's choice, or at the lowest that fits (`iopt_alloc_area_pages`).
 */
import type { IntervalNode } from '#hostmem/interval-tree';
import { NULL, type Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { insertArea } from './iopt-area.ts';
import { allowedNodes } from './iopt-ranges.ts';
import type { Kernel } from './kernel.ts';
import { Pages } from './pages.ts';
import { big, high, low, lowestSetBit, PAGE, roundUpPowerOfTwo, U64_MAX } from './u64.ts';

const pmdSize = 1n << 21n;

/**
 * An unfinished area over `length` bytes of pages from `startByte` on, at `at` or where it fits (`iopt_alloc_area_pages`): step 6 of SEMANTICS
 * a.1. The caller's reference to the pages becomes the area's. EINVAL, EOVERFLOW, EEXIST, ENOSPC, EPERM, ENOMEM.
 */
export function placePages(
  kernel: Kernel, ioas: Ref<'Ioas'>, pages: Ref<'Pages'>, startByte: bigint, length: bigint, at: bigint | null, flags: number,
): Ref<'Area'> {
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  try {
    return insertArea(kernel, ioas, choosePlace(kernel, ioas, pages, startByte, length, at), length, pages, startByte, flags);
  } finally {
    Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  }
}

/** The iova of a mapping that begins at `startByte` of pages: `at`, if it can be had, or the lowest that fits. Under `iovaRwsem`. */
export function choosePlace(
  kernel: Kernel, ioas: Ref<'Ioas'>, pages: Ref<'Pages'>, startByte: bigint, length: bigint, at: bigint | null,
): bigint {
  const alignment = Ioas.alignment.read(kernel.memory, ioas);
  if ((low(length) & (alignment - 1)) !== 0) fail('EINVAL', `length is no multiple of ${alignment}`);
  if (at === null) return chooseIova(kernel, ioas, length, Pages.userVa.peekBig(kernel.memory, pages) + startByte, BigInt(alignment));
  checkFixed(kernel, ioas, at, length, alignment);
  return at;
}

/** Whether an iova of the caller's choice can be had (`iopt_check_iova`). EINVAL, EOVERFLOW, EEXIST. Under `iovaRwsem`. */
function checkFixed(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint, alignment: number): void {
  const memory = kernel.memory;
  if ((low(iova) & (alignment - 1)) !== 0) fail('EINVAL', `iova is no multiple of ${alignment}`);
  const last = iova + length - 1n;
  if (last > U64_MAX) fail('EOVERFLOW', 'iova + length wraps');
  const startHigh = high(iova);
  const startLow = low(iova);
  const lastHigh = high(last);
  const lastLow = low(last);
  if (Ioas.reserved.first(memory, ioas, startHigh, startLow, lastHigh, lastLow) !== NULL) fail('EINVAL', 'the range is reserved');
  if (Ioas.areas.first(memory, ioas, startHigh, startLow, lastHigh, lastLow) !== NULL) fail('EEXIST', 'the range is mapped');
}

/** The lowest iova that fits, aligned as `userVa` allows, and never 0 (`iopt_alloc_iova`). EOVERFLOW, EINVAL, ENOSPC. Under `iovaRwsem`. */
function chooseIova(kernel: Kernel, ioas: Ref<'Ioas'>, length: bigint, userVa: bigint, alignment: bigint): bigint {
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

/**
 * The lowest iova in `[start, last]` (`__alloc_iova_check_range`): in each hole, the hole's start aligned, or-ed with the offset within a
 * page. The range itself counts as a hole first, and the search begins where that puts it.
 */
function firstFit(
  kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint, length: bigint, alignment: bigint, offset: bigint,
): bigint | null {
  let hole = fitIn(start, last, length, alignment, offset);
  while (hole !== null && hole <= last) {
    const used = usedFrom(kernel, ioas, hole, last);
    if (used === null) return fitIn(hole, last, length, alignment, offset);
    if (used.start > hole) {
      const iova = fitIn(hole, used.start - 1n, length, alignment, offset);
      if (iova !== null) return iova;
    }
    hole = used.last + 1n;
  }
  return null;
}

/** Where a mapping lies in a hole, or null; a hole whose last byte it would begin at is passed over. */
function fitIn(first: bigint, last: bigint, length: bigint, alignment: bigint, offset: bigint): bigint | null {
  const iova = ((first + alignment - 1n) / alignment) * alignment | offset;
  return iova >= last || last - iova < length - 1n ? null : iova;
}

/** The first area or reserved range that meets `[start, last]`. */
function usedFrom(kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint): { readonly start: bigint; readonly last: bigint } | null {
  const memory = kernel.memory;
  const area = Ioas.areas.first(memory, ioas, high(start), low(start), high(last), low(last));
  const reserved = Ioas.reserved.first(memory, ioas, high(start), low(start), high(last), low(last));
  const found = [];
  if (area !== NULL) found.push(rangeOf(kernel, Ioas.areas, area));
  if (reserved !== NULL) found.push(rangeOf(kernel, Ioas.reserved, reserved));
  if (found.length < 2) return found[0] ?? null;
  return found[0]!.start <= found[1]!.start ? found[0]! : found[1]!;
}

function rangeOf(kernel: Kernel, tree: typeof Ioas.areas, node: IntervalNode): { readonly start: bigint; readonly last: bigint } {
  const memory = kernel.memory;
  return { start: big(tree.startHigh(memory, node), tree.startLow(memory, node)), last: big(tree.lastHigh(memory, node), tree.lastLow(memory, node)) };
}
