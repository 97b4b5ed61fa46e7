/** The nest parent that does not know who lies on it. */
import { variant } from '../variant.ts';

export default variant({
  mistake: "leaves the caches of a nested domain off its parent's list, so that an unmap in the parent does not reach them",
  source: 'drivers/iommu/intel/cache.c without CACHE_TAG_NESTING_IOTLB',
  caughtBy: 'C1',
  vtd: {
    assignParentTag: () => true,
    unassignParentTag: () => {},
  },
});
