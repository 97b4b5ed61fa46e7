/** K3 by itself: the other faults of 7.2 are mended (docs/faults-of-7.2.md). */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'K3: an ATTACH that cannot write pt_id back detaches the RID, also after a replace or a PASID attach',
  source: 'Linux 7.2.13 with its other faults mended; CANDIDATE (no report located): device_cdev.c:246-247 (vfio)',
  caughtBy: 'O5',
  faults: onlyFaults('pasidUndoHitsRid'),
});
