/**
 * Splits areas, so that an unmap of VFIO type 1 v1 may end within a mapping (`iopt_cut_iova`, `iopt_area_split`).
 */
import { NULL, type Ref } from '#hostmem/object';
import { allocated, fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { Area, areaEnd, areaIova } from './iopt-area.ts';
import { IoptDomain } from './iopt-domains.ts';
import type { Kernel } from './kernel.ts';
import { isDmabuf } from './page-source.ts';
import { holdPages, Pages, splitFills } from './pages.ts';
import { high, low, PAGE } from './u64.ts';

/**
 * Lets no area go across the end of any of `lasts`, but for one whose first byte that is: 7.2 leaves it whole, and nothing is found within the range. EBUSY for
 * an unfinished area, EOPNOTSUPP for a dma-buf, EINVAL for one that cannot be split there, ENOMEM.
 */
export function cutAreas(kernel: Kernel, ioas: Ref<'Ioas'>, lasts: readonly bigint[]): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireRead(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    for (const last of lasts) {
      const node = Ioas.areas.first(memory, ioas, high(last), low(last), high(last), low(last));
      if (node === NULL) continue;
      const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
      if (areaIova(kernel, area) !== last && areaEnd(kernel, area) !== last) splitArea(kernel, ioas, area, last);
    }
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
    Ioas.domainsRwsem.releaseRead(memory, ioas);
  }
}

/** Makes two of an area; the first ends with `last`. Under `domainsRwsem` and `iovaRwsem`. */
function splitArea(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>, last: bigint): void {
  const memory = kernel.memory;
  const pages = Area.pages.read(memory, area);
  if (pages === NULL) fail('EBUSY', 'the mapping is not finished');
  if (isDmabuf(kernel, pages)) fail('EOPNOTSUPP', 'a dma-buf is mapped as a whole');
  const cut = last + 1n - areaIova(kernel, area);
  checkCut(kernel, ioas, area, last + 1n, cut);
  Pages.mutex.acquire(memory, pages);
  try {
    // Of which half an access's pins are is not known.
    if (Area.accesses.load(memory, area) !== 0) fail('EINVAL', 'pages of the mapping are pinned');
    const domains = domainsOf(kernel, ioas);
    if (domains > 0 && Ioas.largePagesDisabled.read(memory, ioas) === 0) fail('EINVAL', 'the mapping may be in large pages');
    replaceByHalves(kernel, ioas, area, cut);
    holdPages(kernel, pages);
    splitFills(kernel, pages, domains);
  } finally {
    Pages.mutex.release(memory, pages);
  }
  Area.free(memory, area);
}

function checkCut(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>, iova: bigint, cut: bigint): void {
  const alignment = BigInt(Ioas.alignment.read(kernel.memory, ioas));
  const byte = BigInt(Area.pageOffset.peek(kernel.memory, area)) + cut;
  if (iova % alignment !== 0n || byte % alignment !== 0n) fail('EINVAL', `the cut is no multiple of ${alignment}`);
}

/** Both are in the tree before the whole leaves it: a failure leaves the whole. */
function replaceByHalves(kernel: Kernel, ioas: Ref<'Ioas'>, area: Ref<'Area'>, cut: bigint): void {
  const memory = kernel.memory;
  const iova = areaIova(kernel, area);
  const left = insertPart(kernel, ioas, area, iova, 0n, cut);
  try {
    insertPart(kernel, ioas, area, iova + cut, cut, areaEnd(kernel, area) - iova + 1n - cut);
  } catch (error) {
    Ioas.areas.remove(memory, ioas, Area.node.peek(memory, left));
    Area.free(memory, left);
    throw error;
  }
  Ioas.areas.remove(memory, ioas, Area.node.peek(memory, area));
}

/** A finished area over `length` bytes of another, from `offset` on. ENOMEM. */
function insertPart(kernel: Kernel, ioas: Ref<'Ioas'>, whole: Ref<'Area'>, iova: bigint, offset: bigint, length: bigint): Ref<'Area'> {
  const memory = kernel.memory;
  const part = allocated(Area.tryCreate(memory));
  const last = iova + length - 1n;
  const node = Ioas.areas.insert(memory, ioas, high(iova), low(iova), high(last), low(last), part);
  if (node === NULL) Area.free(memory, part);
  Area.node.poke(memory, part, allocated(node));
  const byte = BigInt(Area.pageOffset.peek(memory, whole)) + offset;
  Area.ioas.poke(memory, part, ioas);
  Area.transit.poke(memory, part, Area.transit.peek(memory, whole));
  Area.pageOffset.poke(memory, part, Number(byte % PAGE));
  Area.firstPage.poke(memory, part, Area.firstPage.peek(memory, whole) + Number(byte / PAGE));
  Area.pageCount.poke(memory, part, Number((byte % PAGE + length + PAGE - 1n) / PAGE));
  Area.permissions.poke(memory, part, Area.permissions.peek(memory, whole));
  Area.pages.write(memory, part, Area.transit.peek(memory, whole));
  return part;
}

function domainsOf(kernel: Kernel, ioas: Ref<'Ioas'>): number {
  let count = 0;
  let at: Ref<'IoptDomain'> = Ioas.domains.read(kernel.memory, ioas);
  for (; at !== NULL; at = IoptDomain.next.peek(kernel.memory, at)) count++;
  return count;
}
