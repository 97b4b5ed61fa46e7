/** K6 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K6: switching dirty tracking on once more forgets what was written',
  source: 'Linux 7.2.13 with its other faults mended; io_pagetable.c:686-690 (iommufd)',
  caughtBy: 'P8',
  faults: onlyFaults('secondEnableLosesDirt'),
});
