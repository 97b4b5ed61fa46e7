/** K8 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K8: in scalable mode nothing is set up for the alias of devices behind a bridge',
  source: 'Linux 7.2.13 with its other faults mended; intel/pasid.c:896-904',
  caughtBy: 'G2',
  faults: onlyFaults('aliasPasidTableSkipped'),
});
