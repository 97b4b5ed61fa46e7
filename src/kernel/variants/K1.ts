/** K1 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K1: a dirty query ends at the first hole, without an error',
  source: 'Linux 7.2.13 with its other faults mended; io_pagetable.c:550 and 592 (iommufd)',
  caughtBy: 'P8',
  faults: onlyFaults('dirtyHoleStops'),
});
