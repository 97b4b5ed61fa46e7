/**
 * What the last unmap cleared and its flush has to cover (the kernel's `struct iommu_iotlb_gather`). A thread's own: who unmaps flushes the same
 * range; nothing of it is left to another call.
 */
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { PageTable } from '#hostmem/page-table';
import { highOfPage, lowOfPage } from '#hostmem/u64';

export class Gather {
  #domain: Ref<'IommuDomain'> = NULL;
  #first = 0;
  #asked = 0;
  #end = 0;

  /** The unmap of `[first, asked)`, which is the one that counts from now on, cleared `[first, end)`. */
  set(domain: Ref<'IommuDomain'>, first: number, asked: number, end: number): void {
    this.#domain = domain;
    this.#first = first;
    this.#asked = asked;
    this.#end = end;
  }

  /** The page behind what a flush of `[first, end)` has to cover. */
  endOf(domain: Ref<'IommuDomain'>, first: number, end: number): number {
    return domain === this.#domain && first === this.#first && end === this.#asked ? this.#end : end;
  }
}

/**
 * The page behind the last one that an unmap of `[first, end)` will clear: behind `end` where the range ends inside a large leaf, which goes
 * as a whole (SEMANTICS B13). To be asked before it is cleared.
 */
export function endOfUnmap(tables: PageTable, root: Frame, first: number, end: number): number {
  const last = end - 1;
  const span = tables.pagesOfLeaf(root, highOfPage(last), lowOfPage(last));
  const leaf = last - (last % span);
  return leaf >= first ? Math.max(end, leaf + span) : end;
}
