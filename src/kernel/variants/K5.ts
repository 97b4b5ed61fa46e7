/** K5 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K5: a PASID attach of pasid 0 attaches the RID, and the ordinary DETACH does not see it',
  source: 'Linux 7.2.13 with its other faults mended; vfio/iommufd.c:166-205',
  caughtBy: 'D6',
  faults: onlyFaults('pasidZeroIsRid'),
});
