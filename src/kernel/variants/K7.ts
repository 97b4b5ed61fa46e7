/** K7 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K7: VT-d blocks before it refuses, and the member that it refused stays blocked',
  source: 'Linux 7.2.13 with its other faults mended; CANDIDATE (no report located): intel/iommu.c:3153-3159, iommu.c:2517-2527',
  caughtBy: 'G2',
  faults: onlyFaults('failedReplaceLeavesBlocked'),
});
