/** The wish of seed 000: a group is on its default domain while a driver of the kernel uses it, and blocked whenever nobody does. */
import { IommuGroup } from '../iommu-group.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'seed 000 (14 Jun 2021), a proposal that was not adopted',
  caughtBy: null,
  judgedBy: ['G10'],
  group: {
    idleDomain(kernel, group, owner) {
      const isUsed = owner === 0 && IommuGroup.ownerCount.read(kernel.memory, group) > 0;
      return isUsed ? IommuGroup.defaultDomain.peek(kernel.memory, group) : IommuGroup.blockingDomain.peek(kernel.memory, group);
    },
  },
});
