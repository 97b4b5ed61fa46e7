/**
 * What an unmap cleared and a flush has yet to cover (the kernel's `struct iommu_iotlb_gather`). A thread's own: who unmaps flushes.
 */
import { NULL, type Ref } from '#hostmem/object';
import { WalkResult } from '#hostmem/page-table';
import { IommuDomain } from '../domain.ts';
import type { Vtd } from './vtd.ts';

const pagesPerHigh = 2 ** 20;

/** The number of the page that an IOVA is in. */
export const pageOf = (iovaHigh: number, iovaLow: number): number => (iovaHigh >>> 0) * pagesPerHigh + (iovaLow >>> 12);
export const highOfPage = (page: number): number => Math.floor(page / pagesPerHigh) | 0;
export const lowOfPage = (page: number): number => (page % pagesPerHigh) << 12;

export class Gather {
  domain: Ref<'IommuDomain'> = NULL;
  /** Pages `[first, end)`; empty when they are equal. */
  first = 0;
  end = 0;

  add(domain: Ref<'IommuDomain'>, first: number, end: number): void {
    const goesOn = this.domain === domain && this.first !== this.end;
    this.domain = domain;
    this.first = goesOn ? Math.min(this.first, first) : first;
    this.end = goesOn ? Math.max(this.end, end) : end;
  }

  /** Nothing is outstanding any more. */
  clear(): void {
    this.first = this.end = 0;
  }
}

/**
 * The page behind the last one that an unmap of `[first, end)` will clear: behind `end` where the range ends inside a large leaf, which goes
 * as a whole (SEMANTICS B13). To be asked before it is cleared.
 */
export function endOfUnmap(vtd: Vtd, domain: Ref<'IommuDomain'>, first: number, end: number): number {
  const walk = new WalkResult();
  const last = end - 1;
  if (vtd.tables(domain).translate(IommuDomain.root.peek(vtd.kernel, domain), highOfPage(last), lowOfPage(last), walk) !== 0) return end;
  const span = 512 ** (walk.level - 1);
  const leaf = last - (last % span);
  return leaf >= first ? Math.max(end, leaf + span) : end;
}

/** An unmap of `[first, asked)` clears `[first, end)` (`iommu_iotlb_gather_add_range`). */
export function gather(vtd: Vtd, domain: Ref<'IommuDomain'>, first: number, _asked: number, end: number): void {
  vtd.gather.add(domain, first, end);
}
