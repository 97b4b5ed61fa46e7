/** `callback-under-lock` again, for who would rather see two threads wait for each other than be told that they could. */
import { bindUnderLock, requestIoasid, unbindUnderLock } from './ioasid/set.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'calls VFIO back under the lock of the PASIDs, as callback-under-lock: here the schedule that hangs is looked for',
  source: 'seed 001, as callback-under-lock',
  caughtBy: 'DEADLOCK',
  pasid: { request: requestIoasid, authorise: bindUnderLock, revoke: unbindUnderLock },
});
