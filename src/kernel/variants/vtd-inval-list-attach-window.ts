/** The attach that lets a device translate before the unit is on the list of whom an unmap has to flush. */
import { IommuDomain } from '../../drivers/domain.ts';
import { IommuDevice } from '../../drivers/driver.ts';
import { installEntry } from '../../drivers/vtd/attach.ts';
import { assignTag, domainIdOf } from '../../drivers/vtd/cache-tag.ts';
import { ridPasid } from '../../drivers/vtd/pasid-entry.ts';
import { takeDomainId } from '../../drivers/vtd/unit-state.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'installs the entry of a device and puts its unit on the list of whom to flush then: who unmaps in between flushes nobody',
  source: 'CANDIDATE: the order of dmar_domain_attach_device() in Linux 7.2.13, by reading; no report located',
  caughtBy: 'D1',
  vtd: {
    enterDomain(vtd, device, unit, domain) {
      const kernel = vtd.kernel;
      IommuDomain.tagLock.acquire(kernel, domain);
      const domainId = domainIdOf(vtd, domain, unit) || takeDomainId(kernel, unit.state, unit.domainIds);
      IommuDomain.tagLock.release(kernel, domain);
      if (domainId === 0) return 'ENOSPC';
      IommuDevice.domain.poke(kernel, device, domain);
      const error = installEntry(vtd, device, unit, domain, domainId);
      return error !== 0 || assignTag(vtd, domain, unit, ridPasid, domainId) > 0 ? error : 'ENOMEM';
    },
  },
});
