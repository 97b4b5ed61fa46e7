/** The nest parent that forgets what it has translated itself, and no more. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'an unmap of a nest parent invalidates by the addresses of stage 2 alone, so that what both stages have translated stays in the TLB',
  source: 'injected: the flush of all ASIDs of a nest parent (arm_smmu_domain_inv_range) left out',
  caughtBy: 'D1',
  smmuv3: { forgetStages1() {} },
});
