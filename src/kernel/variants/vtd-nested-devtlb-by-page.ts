/** The device TLB that is told a guest's physical address, and knows none. */
import { variant } from '../variant.ts';

export default variant({
  mistake: "invalidates a nested device's own cache by the address that was unmapped in the parent; the device knows the page by the guest's IOVA",
  source: 'drivers/iommu/intel/cache.c without what it says of CACHE_TAG_NESTING_DEVTLB',
  caughtBy: 'D1',
  vtd: {
    flushNestedDeviceTlb: (vtd, tag, gpaHigh, gpaLow, order) => vtd.operations.flushDeviceTlb(vtd, tag, gpaHigh, gpaLow, order),
  },
});
