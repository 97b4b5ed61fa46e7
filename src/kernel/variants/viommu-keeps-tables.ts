/** The vIOMMU that does not see that its guest has other tables. */
import { variant } from '../variant.ts';

export default variant({
  mistake: "takes an invalidation of the guest's PASID cache for one of a cache that the host does not have: the device goes on through the tables that the guest took from it",
  source: 'VT-d specification 6.2.2, of a VMM (a PASID entry that changed may name other tables); model-derived, no report',
  caughtBy: 'D1',
  viommu: { dropPasidEntry: () => {} },
});
