/** The unmap whose load of the invalidation list went ahead of its store to the tables. */
import { invalidateUnits, readInvalidations } from '../../drivers/smmuv3/invalidation.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'reads whom to flush before it clears the leaves, so that who attaches in between keeps what it read before',
  source: '15a2a5645ad7: without the barrier of arm_smmu_domain_inv_range',
  caughtBy: 'D1',
  smmuv3: {
    beginUnmap: readInvalidations,
    flushRange(smmu, domain, iovaHigh, iovaLow, pages, leafOnly) {
      if (smmu.invalidations.domain !== domain) readInvalidations(smmu, domain);
      invalidateUnits(smmu, domain, iovaHigh, iovaLow, pages, leafOnly);
    },
  },
});
