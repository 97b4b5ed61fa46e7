/** A move of a group stops at the member that refuses, and leaves those before it where they are by now. */
import { NULL, type Ref } from '#hostmem/object';
import { IommuGroup, PciDevice, setMemberDomain } from '../iommu-group.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'a move that a member refuses is an error, and the members before it stay moved',
  source: 'before "iommu: Make __iommu_group_set_domain() handle error unwind" (2023)',
  caughtBy: 'G1',
  group: {
    moveMembers(kernel, group, _old, domain) {
      let member: Ref<'PciDevice'> = IommuGroup.members.peek(kernel.memory, group);
      for (; member !== NULL; member = PciDevice.nextInGroup.peek(kernel.memory, member)) setMemberDomain(kernel, group, domain, member);
    },
  },
});
