/** A drain that forgets what is on its way to the queue. */
import { submit } from '../../drivers/vtd/queue.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'waits for the invalidations of a drain alone (no PD): a page request still on its way comes into the queue later, and goes to whom the device has then',
  source: 'VT-d specification 7.10 without its last step; model-derived, no report (RACES iopf-lost-after-detach)',
  caughtBy: 'F3',
  vtd: { submit: (vtd, unit, batch) => submit(vtd, unit, batch) },
});
