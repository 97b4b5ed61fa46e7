/** An attach of a PASID that joins its domain as the RID would. */
import { joinDomain, leaveDomain } from '../../drivers/vtd/attach.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'puts a PASID on the list of its domain under the number of requests without one: no flush names what the PASID has in the caches',
  source: 'model-derived, no report (cache_tag_assign_domain is handed the PASID)',
  caughtBy: 'C1',
  vtd: {
    joinDomain: (vtd, device, unit, domain) => joinDomain(vtd, device, unit, domain),
    leaveDomain: (vtd, device, unit, domain) => leaveDomain(vtd, device, unit, domain),
  },
});
