/** An unmap of `[first, asked)` clears `[first, end)` (`iommu_iotlb_gather_add_range`). */
import type { Ref } from '#hostmem/object';
import type { Vtd } from './vtd.ts';

export function gather(vtd: Vtd, domain: Ref<'IommuDomain'>, first: number, asked: number, end: number): void {
  vtd.gather.set(domain, first, asked, end);
}
