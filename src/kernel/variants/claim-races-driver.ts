/** Whether a driver is bound to a member is asked before the group's mutex is taken: it may bind in between. */
import { NULL, type Ref } from '#hostmem/object';
import { takeGroup } from '../dma-owner.ts';
import { fail } from '../errno.ts';
import { IommuGroup, KernelDriver, PciDevice } from '../iommu-group.ts';
import type { Kernel } from '../kernel.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'the claim looks for kernel drivers first and takes the group then, under a lock that does not span both',
  source: 'model-derived: iommu_device_claim_dma_owner() with its check outside of group->mutex',
  caughtBy: 'G3',
  group: {
    claimOwner(kernel, group, owner) {
      const memory = kernel.memory;
      if (hasDriver(kernel, group)) fail('EPERM', 'a kernel driver does DMA through the group');
      IommuGroup.mutex.acquire(memory, group);
      try {
        const current = IommuGroup.owner.read(memory, group);
        if (current !== 0 && current !== owner) fail('EPERM', 'the group has another owner');
        if (current === 0) takeGroup(kernel, group, owner);
        IommuGroup.ownerCount.write(memory, group, IommuGroup.ownerCount.read(memory, group) + 1);
      } finally {
        IommuGroup.mutex.release(memory, group);
      }
    },
  },
});

function hasDriver(kernel: Kernel, group: Ref<'IommuGroup'>): boolean {
  const memory = kernel.memory;
  for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member))
    if (PciDevice.kernelDriver.load(memory, member) === KernelDriver.DEFAULT_DOMAIN) return true;
  return false;
}
