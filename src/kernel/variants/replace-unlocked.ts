/**
 * Group and record are both updated, but in two critical sections: two replaces can leave them disagreeing.
 */
import { NULL, type Ref } from '#hostmem/object';
import type { Kernel } from '../kernel.ts';
import { Hwpt } from '../hwpt.ts';
import { replaceGroup } from '../iommu-group.ts';
import { attachedHwpt, moveUsers, record } from '../iommufd-attach.ts';
import { IommufdDevice } from '../iommufd-device.ts';
import { IommufdGroup } from '../iommufd-group.ts';
import { reserveForMembers, unreserveForMembers } from '../iommufd-reserved.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'moves the group and writes the attachment record in two critical sections of IommufdGroup.lock',
  source: 'model-derived: e88d4ec154a8 without its one critical section',
  caughtBy: 'G2',
  attach: {
    replace(kernel, device, hwpt) {
      return moveGroup(kernel, device, hwpt) ? writeRecord(kernel, device, hwpt) : NULL;
    },
  },
});

function moveGroup(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): boolean {
  const group = IommufdDevice.group.peek(kernel.memory, device);
  IommufdGroup.lock.acquire(kernel.memory, group);
  try {
    const old = attachedHwpt(kernel, group, device);
    if (old === hwpt) return false;
    if (Hwpt.ioas.peek(kernel.memory, old) !== Hwpt.ioas.peek(kernel.memory, hwpt)) {
      reserveForMembers(kernel, group, Hwpt.ioas.peek(kernel.memory, hwpt));
    }
    replaceGroup(kernel, IommufdGroup.group.peek(kernel.memory, group), Hwpt.domain.peek(kernel.memory, hwpt));
    return true;
  } finally {
    IommufdGroup.lock.release(kernel.memory, group);
  }
}

/** Reads the record anew, so that counts stay right: only the view is wrong. */
function writeRecord(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): Ref<'Hwpt'> {
  const group = IommufdDevice.group.peek(kernel.memory, device);
  IommufdGroup.lock.acquire(kernel.memory, group);
  try {
    const old = attachedHwpt(kernel, group, device);
    if (old === hwpt) return NULL;
    const ioas = Hwpt.ioas.peek(kernel.memory, old);
    if (ioas !== Hwpt.ioas.peek(kernel.memory, hwpt)) unreserveForMembers(kernel, group, ioas);
    record(kernel, group, device, hwpt);
    moveUsers(kernel, group, old, hwpt);
    return old;
  } finally {
    IommufdGroup.lock.release(kernel.memory, group);
  }
}
