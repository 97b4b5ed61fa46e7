/** The first resets that blocked a device did not tell the rest of the core: an attach moves the parked member with all others. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'an attach or replace moves a member in the middle of its reset, and sends invalidations to it',
  source: '5474e6e17a26 (CVE-2026-52952): what it mended',
  caughtBy: 'G8',
  group: {
    admitMove: () => true,
  },
});
