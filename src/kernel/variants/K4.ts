/** K4 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K4: a failed replace within one IOAS takes the reserved regions of the group out of it',
  source: 'Linux 7.2.13 with its other faults mended; device.c:754, 768 and 838-840 (iommufd)',
  caughtBy: 'G5',
  faults: onlyFaults('failedReplaceDropsReserved'),
});
