/** The detach that gives the domain id back before the unit has forgotten what it cached under it. */
import { NULL } from '#hostmem/object';
import { IommuDevice } from '../../drivers/driver.ts';
import { blockTranslation } from '../../drivers/vtd/attach.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'takes a device off its domain, and so frees the domain id, before the entry is cleared and flushed',
  source: 'XSA-399 (CVE-2022-26357), as Linux would have it',
  caughtBy: 'C5',
  vtd: {
    blockTranslation(vtd, device) {
      const unit = vtd.unit(IommuDevice.unit.peek(vtd.kernel, device));
      const domain = IommuDevice.domain.peek(vtd.kernel, device);
      if (domain !== NULL) vtd.operations.leaveDomain(vtd, device, unit, domain);
      IommuDevice.domain.poke(vtd.kernel, device, NULL);
      blockTranslation(vtd, device);
    },
  },
});
