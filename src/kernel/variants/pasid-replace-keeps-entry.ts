/** A replace of a PASID that finds its entry present. */
import { setPasid } from '../../drivers/vtd/device-pasid.ts';
import { presentPasid } from '../../drivers/vtd/pasid-entry.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'takes a PASID whose entry is present for one that is set up: a replace says 0 and leaves it on the old domain',
  source: 'model-derived, no report (intel_pasid_setup_first_level refuses a present entry with EBUSY)',
  caughtBy: 'D4',
  vtd: {
    setPasid: (vtd, device, pasid, domain) => (presentPasid(vtd, device, pasid) === 0 ? setPasid(vtd, device, pasid, domain) : 0),
  },
});
