/** Seed 001, V4 as it was: handlers that would sleep put their part off. */
import { bindUnlocked, doIoasidWork, requestIoasid, unbindLater } from './ioasid/set.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'tells VFIO of an UNBIND by a chain that must not sleep: the device keeps the PASID until a worker comes to it, the call has long returned',
  source: 'ioasid_set V4 as argued about, 31 Mar 2021 (seed 001); a reconstruction',
  caughtBy: 'G9',
  pasid: { request: requestIoasid, authorise: bindUnlocked, revoke: unbindLater, work: doIoasidWork },
});
