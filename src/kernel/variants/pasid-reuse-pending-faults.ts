/** A number that is given back before the device has let go of it. */
import { blockDevice, dropPasid, ownPasid } from '../process-pasid.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "frees a process's PASID first and takes it off the device then: another process may have it by now",
  source: '14b81abe7bdc (CVE-2026-31462), told of VT-d',
  caughtBy: 'C5',
  pasid: {
    unbind(kernel, file) {
      const pasid = ownPasid(kernel);
      dropPasid(kernel);
      blockDevice(kernel, file, pasid);
    },
  },
});
