/** The vIOMMU that answers its guest before it has asked the host. */
import { variant } from '../variant.ts';

export default variant({
  mistake: "writes the status of the guest's wait before it has forwarded the invalidations that the guest queued before it",
  source: 'an order that HWPT_INVALIDATE asks of a VMM (include/uapi/linux/iommufd.h)',
  caughtBy: 'D1',
  viommu: {
    finishWait(server) {
      server.complete();
      server.forward();
    },
  },
});
