/** The bounce page that begins with what the last transfer left in it. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'does not fill a bounce page that the device is to write: what it leaves out is copied to the driver from the transfer before',
  source: '901c7280ca0d (CVE-2022-48853)',
  caughtBy: 'T7',
  confidential: { fillBounce: () => {} },
});
