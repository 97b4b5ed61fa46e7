/** Linux 7.2 without its faults: what a scenario that meets them holds for. */
import { onlyFaults } from '../faults-of-72.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'Linux 7.2.13 with K1 to K9 mended',
  caughtBy: null,
  faults: onlyFaults(),
});
