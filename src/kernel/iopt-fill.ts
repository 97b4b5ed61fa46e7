/**
 * The translations of an area in the domains of its IOAS (`iopt_area_fill_domains`, `iopt_area_unfill_domains`, pages.c).
 *
 * Pages are pinned before the first entry names them, and unpinned when no cache has an entry any more.
 */
import { hpaOf, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import type { MapError } from '../drivers/driver.ts';
import { addDmabufMapping, dropDmabufMapping } from './dmabuf.ts';
import { assert, fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { Area, areaEnd, areaIova, areaIovaHigh, areaIovaLow } from './iopt-area.ts';
import { IoptDomain } from './iopt-domains.ts';
import type { Kernel } from './kernel.ts';
import { isDmabuf } from './page-source.ts';
import { addFill, dropFill, Pages } from './pages.ts';
import { highOfPage, lowOfPage, PAGE, pageNumber } from './u64.ts';

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

/** Pins if need be and writes one domain's entries; undoes itself. Of a revoked dma-buf there are none. The caller holds the pages' mutex. EFAULT, ENOMEM. */
export function fillArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void {
  const pages = Area.transit.peek(kernel.memory, area);
  if (!isDmabuf(kernel, pages)) {
    writeArea(kernel, domain, area);
    return;
  }
  const wanted = addDmabufMapping(kernel, pages, area, domain);
  try {
    if (wanted) writeArea(kernel, domain, area);
  } catch (error) {
    dropDmabufMapping(kernel, pages, area, domain);
    throw error;
  }
}

function writeArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  const pages = Area.transit.peek(memory, area);
  const first = Area.firstPage.peek(memory, area);
  const count = Area.pageCount.peek(memory, area);
  const permissions = Area.permissions.peek(memory, area);
  addFill(kernel, pages, first, count);
  const frames = Pages.frames.read(memory, pages);
  for (let i = 0; i < count; i++) {
    const problem = mapPage(kernel, domain, area, i, runGet(memory, frames, first + i) as Frame, permissions);
    if (problem === 0) continue;
    const page = iovaOfPage(kernel, area, i);
    if (i > 0) unmapArea(kernel, domain, area, page - 1n, i);
    dropFill(kernel, pages, first, count);
    fail(problem, `the domain refuses page 0x${page.toString(16)}`);
  }
}

/** Where in the domain page `index` of an area begins: the first one with the area. */
function iovaOfPage(kernel: Kernel, area: Ref<'Area'>, index: number): bigint {
  const iova = areaIova(kernel, area);
  return index === 0 ? iova : iova + BigInt(index) * PAGE - BigInt(Area.pageOffset.peek(kernel.memory, area));
}

/** Writes what of page `index` the area maps: all of it, but where the unit's pages are smaller than the CPU's. */
function mapPage(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>, index: number, frame: Frame, permissions: number): 0 | MapError {
  if (kernel.driver.mapBytes !== undefined) return mapBytes(kernel, domain, area, index, frame, permissions);
  const page = pageNumber(areaIovaHigh(kernel, area), areaIovaLow(kernel, area)) + index;
  return kernel.driver.map(domain, highOfPage(page), lowOfPage(page), frame, permissions);
}

function mapBytes(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>, index: number, frame: Frame, permissions: number): 0 | MapError {
  assert(kernel.driver.mapBytes !== undefined, 'the unit has pages smaller than the CPU');
  const iova = iovaOfPage(kernel, area, index);
  const offset = index === 0 ? Area.pageOffset.peek(kernel.memory, area) : 0;
  const left = areaEnd(kernel, area) - iova + 1n;
  const room = Number(PAGE) - offset;
  return kernel.driver.mapBytes(domain, iova, hpaOf(frame) + offset, left < room ? Number(left) : room, permissions);
}

/** Clears an area up to `last`, or to its end, which `pages` pages of the CPU are behind, and waits until no cache has it. */
function unmapArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>, last: bigint | null, pages: number): void {
  if (kernel.driver.unmapBytes !== undefined) {
    const iova = areaIova(kernel, area);
    kernel.driver.unmapBytes(domain, iova, (last ?? areaEnd(kernel, area)) - iova + 1n);
    return;
  }
  const high = areaIovaHigh(kernel, area);
  const low = areaIovaLow(kernel, area);
  kernel.driver.unmap(domain, high, low, pages);
  kernel.driver.sync(domain, high, low, pages, true);
}

/** Takes an area out of a domain. The caller holds the pages' mutex. */
export function emptyArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void {
  const pages = Area.transit.peek(kernel.memory, area);
  if (isDmabuf(kernel, pages) && !dropDmabufMapping(kernel, pages, area, domain)) return;
  clearArea(kernel, domain, area);
}

/** Clears one domain's entries, waits for the invalidation, then unpins: never the other way round (I4, D1). */
export function clearArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void {
  const memory = kernel.memory;
  const pages = Area.transit.peek(memory, area);
  const count = Area.pageCount.peek(memory, area);
  unmapArea(kernel, domain, area, null, count);
  dropFill(kernel, pages, Area.firstPage.peek(memory, area), count);
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
