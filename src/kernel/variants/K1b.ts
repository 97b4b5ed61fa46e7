/** K1b by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K1b: a dirty query clears what it could not store in its user\'s bitmap, and succeeds',
  source: 'Linux 7.2.13 with its other faults mended; iova_bitmap.c:414, iommu_pt.h:261-270',
  caughtBy: 'P8',
  faults: onlyFaults('dirtyBitmapFaultLosesDirt'),
});
