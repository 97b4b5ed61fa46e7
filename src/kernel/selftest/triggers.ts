/** What the selftest lets a mock device do: ask for a page, and cause an event of its vIOMMU. */
import { NULL, type Ref } from '#hostmem/object';
import { MockDevice, mockDeviceOf } from '../../drivers/mock/device.ts';
import { RID_SLOT } from '../change-pt.ts';
import { fail } from '../errno.ts';
import { reportEvent } from '../event-queue.ts';
import { PciDevice } from '../iommu-group.ts';
import { getDevice, IommufdDevice } from '../iommufd-device.ts';
import type { Kernel } from '../kernel.ts';
import { reportPageRequest } from '../page-request.ts';

export interface TriggerIopf { deviceId: number; pasid: number; group: number; permissions: number; address: bigint }

export interface TriggerVevent { deviceId: number }

/** IOMMU_VEVENTQ_TYPE_SELFTEST: the data are the device's number. */
export const eventType = 0xbeefbeef;

/** TRIGGER_IOPF: a page request, without a PASID where that is 0. Whether somebody took it is not told. ENOENT. */
export function triggerIopf(kernel: Kernel, iommufd: Ref<'Iommufd'>, { deviceId, pasid, group, permissions, address }: TriggerIopf): void {
  reportPageRequest(kernel, getDevice(kernel, iommufd, deviceId), { pasid: pasid === RID_SLOT ? null : pasid, group, permissions, address });
}

/**
 * TRIGGER_VEVENT: an event of the vIOMMU that the device is attached through, under the number that it had there when it was attached. ENOENT without one, or with
 * number 0; EOPNOTSUPP when nobody listens.
 */
export function triggerVevent(kernel: Kernel, iommufd: Ref<'Iommufd'>, { deviceId }: TriggerVevent): void {
  const memory = kernel.memory;
  const pci = IommufdDevice.device.peek(memory, getDevice(kernel, iommufd, deviceId));
  const mock = mockDeviceOf(memory, PciDevice.function.peek(memory, pci));
  MockDevice.viommuRwsem.acquireRead(memory, mock);
  try {
    const viommu = MockDevice.viommu.peek(memory, mock) as Ref<'Viommu'>;
    const virtId = MockDevice.virtId.peekBig(memory, mock);
    if (viommu === NULL || virtId === 0n) fail('ENOENT', 'the device has no number inside a vIOMMU');
    reportEvent(kernel, viommu, eventType, [Number(BigInt.asIntN(32, virtId))]);
  } finally {
    MockDevice.viommuRwsem.releaseRead(memory, mock);
  }
}
