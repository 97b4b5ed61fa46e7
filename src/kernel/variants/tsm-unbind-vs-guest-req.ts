/** Forward-looking (RACES 98): a guest's request for an interface that is the guest's no more. */
import { RequestScope } from '../../drivers/tsm/link-tsm.ts';
import { fail } from '../errno.ts';
import { PciDevice } from '../iommu-group.ts';
import { enter, isBound, leave, tsmOf } from '../tsm.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'asks whether a device interface is bound, waits for the lock, and carries the request out on what has been unbound meanwhile',
  source: 'RACES tsm-unbind-vs-guest-req: what the second look in 7.2\'s pci_tsm_guest_req is for (model-derived; it has no caller in 7.2)',
  caughtBy: 'T3',
  tsm: {
    guestRequest(kernel, device, scope, what) {
      if (scope > RequestScope.STATE_CHANGE) fail('EINVAL', 'a request that is not about TDISP');
      if (!isBound(kernel, device, 'ENXIO')) fail('ENXIO', 'the interface is bound to nobody');
      const tsm = enter(kernel, device, 'ENXIO');
      try {
        tsmOf(kernel).request(PciDevice.function.peek(kernel.memory, device), scope, what);
      } finally {
        leave(kernel, tsm);
      }
    },
  },
});
