/**
 * Before DMA ownership: VFIO looked whether a group was viable when it took it, and a driver that bound later asked nobody. VFIO learned of it from
 * the bus notifier, too late for anything but BUG_ON().
 */
import { tellDriver, useDefaultDomain } from '../dma-owner.ts';
import { DriverBound } from '../events.ts';
import { IommuGroup, KernelDriver, PciDevice } from '../iommu-group.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'a kernel driver binds to a member of a group that a user owns, without asking',
  source: 'vfio_group_viable() and its notifier, before 512881eacfa7 (Linux 5.19)',
  caughtBy: 'G3',
  group: {
    useDefaultDomain(kernel, device) {
      const memory = kernel.memory;
      const group = PciDevice.group.peek(memory, device);
      IommuGroup.mutex.acquire(memory, group);
      const isOwned = IommuGroup.owner.read(memory, group) !== 0;
      if (isOwned) tellDriver(kernel, DriverBound, device, KernelDriver.DEFAULT_DOMAIN);
      IommuGroup.mutex.release(memory, group);
      if (!isOwned) useDefaultDomain(kernel, device);
    },
  },
});
