/** A mediated device whose driver trusts the PASID in the work. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'takes work for a share under any PASID: that another VM has allowed it to its own share is all that the table knows',
  source: 'seed 001 (the drivers keep their own list); model-derived, no report',
  caughtBy: 'G9',
  pasid: { mayUse: () => true },
});
