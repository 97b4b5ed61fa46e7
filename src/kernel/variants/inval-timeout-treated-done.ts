/** The time-out that is taken for an answer. */
import { AfterTimeOut } from '../../drivers/vtd/queue.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'takes an invalidation that has timed out for one that was carried out',
  source: 'XSA-373 (CVE-2021-28692), as Linux would have it',
  caughtBy: 'C3',
  vtd: { afterTimeOut: () => AfterTimeOut.DONE },
});
