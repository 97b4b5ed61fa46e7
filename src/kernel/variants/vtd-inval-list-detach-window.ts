/** The detach that takes the unit off the list of whom an unmap has to flush while the device still translates. */
import { NULL } from '#hostmem/object';
import { IommuDomain } from '../../drivers/domain.ts';
import { IommuDevice } from '../../drivers/driver.ts';
import { blockTranslation } from '../../drivers/vtd/attach.ts';
import { dropTag, giveBackDomainId } from '../../drivers/vtd/cache-tag.ts';
import { ridPasid } from '../../drivers/vtd/pasid-entry.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'takes a unit off the list of whom to flush and clears the entry of the device then: who unmaps in between flushes nobody',
  source: 'CANDIDATE: the order of device_block_translation() in Linux 7.2.13, by reading; no report located',
  caughtBy: 'D1',
  vtd: {
    blockTranslation(vtd, device) {
      const kernel = vtd.kernel;
      const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
      const domain = IommuDevice.domain.peek(kernel, device);
      let domainId = 0;
      if (domain !== NULL) {
        IommuDomain.tagLock.acquire(kernel, domain);
        domainId = dropTag(vtd, domain, unit, ridPasid);
        IommuDomain.tagLock.release(kernel, domain);
      }
      IommuDevice.domain.poke(kernel, device, NULL);
      blockTranslation(vtd, device);
      // The number outlives the flush: what is wrong is the list alone.
      if (domainId !== 0) giveBackDomainId(vtd, unit, domainId);
    },
  },
});
