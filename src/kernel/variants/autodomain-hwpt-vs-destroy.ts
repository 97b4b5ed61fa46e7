/** The attach that takes an automatic HWPT for alive because it is on the list of its IOAS. */
import { changeIfSuited } from '../change-pt.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'attaches to an automatic HWPT of the list without holding it, while its last device may have left and it is being destroyed',
  source: '"iommufd: Add iommufd_lock_obj() around the auto-domains hwpts" (2023)',
  caughtBy: 'O2',
  attach: { tryAutomatic: changeIfSuited },
});
