/** K2 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K2: a command that an SMMUv3 vIOMMU cannot convert has those before it counted as handled, and not issued',
  source: 'Linux 7.2.13 with its other faults mended, by reading; arm_vsmmu_cache_invalidate() (arm-smmu-v3-iommufd.c)',
  caughtBy: 'D1',
  faults: onlyFaults('smmuPartialBatch'),
});
