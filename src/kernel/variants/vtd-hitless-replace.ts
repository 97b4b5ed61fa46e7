/** A replace that stays up where one quadword decides: a proposal, beside 7.2 that breaks before it makes. */
import { replacePaging } from '../../drivers/vtd/pasid-replace.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'model-derived: arm_smmu_write_entry for PASID entries',
  caughtBy: null,
  vtd: {
    attachPaging: (vtd, device, domain) => replacePaging(vtd, device, domain, 'hitless'),
  },
});
