/**
 * The proposal of Feb 2023 (seed 002): a replace moves the group and its record, and siblings are pending until they are replaced too; meanwhile
 * nothing is mapped in the IOAS that they came from, lest user space believe that it maps for them. But an IOAS is not theirs alone.
 */
import { NULL, type Ref } from '#hostmem/object';
import { fail } from '../errno.ts';
import { Hwpt } from '../hwpt.ts';
import { Ioas } from '../ioas.ts';
import { fillAndPublish } from '../iopt.ts';
import { detach as linuxDetach, replace as linuxReplace } from '../iommufd-attach.ts';
import { IommufdDevice } from '../iommufd-device.ts';
import { IommufdGroup } from '../iommufd-group.ts';
import type { Kernel } from '../kernel.ts';
import { Iommufd, IommufdObject } from '../objects.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'refuses IOAS_MAP on an IOAS while a group that left it has a member that was not replaced itself',
  source: 'the thread of iommufd replace v2, Feb 2023 (seed 002)',
  caughtBy: 'O6',
  attach: {
    replace(kernel, device, hwpt) {
      const old = linuxReplace(kernel, device, hwpt);
      const group = IommufdDevice.group.peek(kernel.memory, device);
      IommufdGroup.lock.acquire(kernel.memory, group);
      if (old !== NULL) markSiblings(kernel, group, Hwpt.ioas.peek(kernel.memory, old));
      IommufdDevice.pendingIoas.write(kernel.memory, device, NULL);
      IommufdGroup.lock.release(kernel.memory, group);
      return old;
    },
    detach(kernel, device) {
      const group = IommufdDevice.group.peek(kernel.memory, device);
      IommufdGroup.lock.acquire(kernel.memory, group);
      IommufdDevice.pendingIoas.write(kernel.memory, device, NULL);
      IommufdGroup.lock.release(kernel.memory, group);
      return linuxDetach(kernel, device);
    },
  },
  iopt: {
    fillAndPublish(kernel, ioas, areas) {
      if (isPending(kernel, ioas)) fail('EBUSY', 'a device that came from here has not been replaced');
      fillAndPublish(kernel, ioas, areas);
    },
  },
});

/** The caller holds the group's lock. */
function markSiblings(kernel: Kernel, group: Ref<'IommufdGroup'>, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  for (let at = IommufdGroup.attached.read(memory, group); at !== NULL; at = IommufdDevice.nextAttached.read(memory, at))
    IommufdDevice.pendingIoas.write(memory, at, ioas);
}

function isPending(kernel: Kernel, ioas: Ref<'Ioas'>): boolean {
  const memory = kernel.memory;
  const iommufd = IommufdObject.iommufd.peek(memory, Ioas.header.peek(memory, ioas));
  let found = false;
  Iommufd.groupsLock.acquire(memory, iommufd);
  for (let group = Iommufd.groups.read(memory, iommufd); group !== NULL; group = IommufdGroup.next.read(memory, group)) {
    IommufdGroup.lock.acquire(memory, group);
    for (let at = IommufdGroup.attached.read(memory, group); at !== NULL; at = IommufdDevice.nextAttached.read(memory, at))
      found ||= IommufdDevice.pendingIoas.read(memory, at) === ioas;
    IommufdGroup.lock.release(memory, group);
  }
  Iommufd.groupsLock.release(memory, iommufd);
  return found;
}
