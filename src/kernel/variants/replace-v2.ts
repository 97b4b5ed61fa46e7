/**
 * The replace of Feb 2023 (v2 of the series): the first replace moves the group, the sibling's record stays behind. A VMM that
 * believes the record then maps where nobody looks, and asking again for the recorded IOAS changes nothing.
 */
import { NULL } from '#hostmem/object';
import { HwptRecorded } from '../events.ts';
import { headerOf, Hwpt, hwptId } from '../hwpt.ts';
import { replaceGroup } from '../iommu-group.ts';
import { attachedHwpt, detach as linuxDetach } from '../iommufd-attach.ts';
import { deviceId, IommufdDevice } from '../iommufd-device.ts';
import { groupNumber, IommufdGroup } from '../iommufd-group.ts';
import { reserveForDevice, unreserveForDevice } from '../iommufd-reserved.ts';
import { addUser } from '../objects.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'moves the group to the new domain but leaves the sibling recorded on the old HWPT',
  source: 'iommufd replace v2, Feb 2023 (seed 002)',
  caughtBy: 'G2',
  attach: {
    replace(kernel, device, hwpt) {
      const memory = kernel.memory;
      const group = IommufdDevice.group.peek(memory, device);
      IommufdGroup.lock.acquire(memory, group);
      try {
        const own = IommufdDevice.hwpt.read(memory, device);
        const old = own !== NULL ? own : attachedHwpt(kernel, group, device);
        if (old === hwpt) return NULL;
        reserveForDevice(kernel, Hwpt.ioas.peek(memory, hwpt), device);
        replaceGroup(kernel, IommufdGroup.group.peek(memory, group), Hwpt.domain.peek(memory, hwpt));
        unreserveForDevice(kernel, Hwpt.ioas.peek(memory, old), device);
        // Only this device learns of the move; whoever reads the group's record still sees the old HWPT.
        IommufdDevice.hwpt.write(memory, device, hwpt);
        HwptRecorded.emit(memory, groupNumber(kernel, group), deviceId(kernel, device), hwptId(kernel, hwpt));
        addUser(kernel, headerOf(kernel, hwpt));
        return old;
      } finally {
        IommufdGroup.lock.release(memory, group);
      }
    },
    detach(kernel, device) {
      const memory = kernel.memory;
      const group = IommufdDevice.group.peek(memory, device);
      const own = IommufdDevice.hwpt.peek(memory, device);
      const recorded = linuxDetach(kernel, device);
      if (own === NULL) return recorded;
      IommufdGroup.lock.acquire(memory, group);
      IommufdDevice.hwpt.write(memory, device, NULL);
      unreserveForDevice(kernel, Hwpt.ioas.peek(memory, own), device);
      IommufdGroup.lock.release(memory, group);
      return own;
    },
  },
});
