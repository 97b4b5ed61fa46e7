/** K9 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K9: a replace does not ask which driver made the HWPT',
  source: 'Linux 7.2.13 with its other faults mended; iommu.c:3976-3995',
  caughtBy: 'O2',
  faults: onlyFaults('replaceForeignHwpt'),
});
