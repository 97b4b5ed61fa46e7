/** Seed 001: the handlers called at once, to close the gap that putting them off leaves. */
import { bindUnderLock, requestIoasid, unbindUnderLock } from './ioasid/set.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "calls VFIO back under the lock of the PASIDs, for a device's lock that VFIO holds when it asks for a PASID: A-B and B-A",
  source: "Yi Liu's fear in the thread of 31 Mar 2021 (seed 001); 2b48f52f2bff and 51cdc8bc120e (2023) are the same of VFIO and KVM",
  caughtBy: 'L1',
  pasid: { request: requestIoasid, authorise: bindUnderLock, revoke: unbindUnderLock },
});
