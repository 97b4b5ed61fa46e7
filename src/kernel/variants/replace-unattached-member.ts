/** Any bound device of an attached group passes for a member of the attachment: nobody looks whether it is one. */
import { NULL } from '#hostmem/object';
import { fail } from '../errno.ts';
import { Hwpt } from '../hwpt.ts';
import { replaceGroup } from '../iommu-group.ts';
import { moveUsers, record } from '../iommufd-attach.ts';
import { IommufdDevice } from '../iommufd-device.ts';
import { IommufdGroup } from '../iommufd-group.ts';
import { reserveForMembers, unreserveForMembers } from '../iommufd-reserved.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'a replace through a device that never attached moves the group, because a sibling had',
  source: '55c85fa7579d (Link 20250306034842.5950-1-yi.l.liu@intel.com): what it mended',
  caughtBy: 'G2',
  attach: {
    replace(kernel, device, hwpt) {
      const memory = kernel.memory;
      const group = IommufdDevice.group.peek(memory, device);
      IommufdGroup.lock.acquire(memory, group);
      try {
        const old = IommufdGroup.hwpt.read(memory, group);
        if (old === NULL) fail('EINVAL', 'nobody of the group is attached');
        if (old === hwpt) return NULL;
        const isNew = Hwpt.ioas.peek(memory, old) !== Hwpt.ioas.peek(memory, hwpt);
        if (isNew) reserveForMembers(kernel, group, Hwpt.ioas.peek(memory, hwpt));
        replaceGroup(kernel, IommufdGroup.group.peek(memory, group), Hwpt.domain.peek(memory, hwpt));
        if (isNew) unreserveForMembers(kernel, group, Hwpt.ioas.peek(memory, old));
        record(kernel, group, device, hwpt);
        moveUsers(kernel, group, old, hwpt);
        return old;
      } finally {
        IommufdGroup.lock.release(memory, group);
      }
    },
  },
});
