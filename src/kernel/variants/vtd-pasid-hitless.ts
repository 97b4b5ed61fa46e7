/** The third writer of a PASID entry: that of SMMUv3, which needs no moment without an entry where one quadword decides. */
import { replacePaging } from '../../drivers/vtd/pasid-replace.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'arm_smmu_write_entry(), told of VT-d: not in Linux. Between two domains the table and the domain id differ, so that it breaks before it makes',
  caughtBy: null,
  vtd: {
    attachPaging: (vtd, device, domain) => replacePaging(vtd, device, domain, 'hitless'),
  },
});
