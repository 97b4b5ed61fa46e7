/** What the selftest lets a mock device do: ask for a page, and cause an event of its vIOMMU. */
import { NULL, type Ref } from '#hostmem/object';
import { RID_SLOT } from '../change-pt.ts';
import { fail } from '../errno.ts';
import { reportEvent } from '../event-queue.ts';
import { queueRequest } from '../fault-queue.ts';
import { Hwpt } from '../hwpt.ts';
import { getDevice, IommufdDevice } from '../iommufd-device.ts';
import { IommufdGroup } from '../iommufd-group.ts';
import { hwptOfPasid } from '../iommufd-pasid.ts';
import type { Kernel } from '../kernel.ts';
import { virtIdOf } from '../vdevice.ts';

export interface TriggerIopf { deviceId: number; pasid: number; group: number; permissions: number; address: bigint }

export interface TriggerVevent { deviceId: number }

/** IOMMU_VEVENTQ_TYPE_SELFTEST: the data are the device's number. */
export const eventType = 0xbeefbeef;
/** IOMMU_NO_PASID_SHIFTED: the request has none. */
const NO_PASID = 0xffffffff;

/** TRIGGER_IOPF: a page request, delivered where the PASID's HWPT says, or the RID's (`iommu_report_device_fault`). ENOENT, ENODEV. */
export function triggerIopf(kernel: Kernel, iommufd: Ref<'Iommufd'>, { deviceId, pasid, group, permissions, address }: TriggerIopf): void {
  const memory = kernel.memory;
  const device = getDevice(kernel, iommufd, deviceId);
  const ofPasid = pasid === NO_PASID ? NULL : hwptOfPasid(kernel, device, pasid);
  const hwpt = ofPasid === NULL ? ridHwpt(kernel, device) : ofPasid;
  const queue = hwpt === NULL ? NULL : Hwpt.faultQueue.peek(memory, hwpt);
  if (queue === NULL) fail('ENODEV', 'nobody takes page requests of the device');
  const hasPasid = pasid !== NO_PASID;
  const slot = ofPasid === NULL ? RID_SLOT : pasid;
  queueRequest(kernel, queue, { device, deviceId, pasid: hasPasid ? pasid : null, slot, group, permissions, address });
}

/** TRIGGER_VEVENT: an event of the vIOMMU that the device is attached through. ENOENT without one, EOPNOTSUPP when nobody listens. */
export function triggerVevent(kernel: Kernel, iommufd: Ref<'Iommufd'>, { deviceId }: TriggerVevent): void {
  const device = getDevice(kernel, iommufd, deviceId);
  const hwpt = ridHwpt(kernel, device);
  const viommu = hwpt === NULL ? NULL : Hwpt.viommu.peek(kernel.memory, hwpt);
  const virtId = viommu === NULL ? null : virtIdOf(kernel, viommu, device);
  if (virtId === null) fail('ENOENT', 'the device has no number inside a vIOMMU');
  reportEvent(kernel, viommu, eventType, [Number(BigInt.asIntN(32, virtId))]);
}

function ridHwpt(kernel: Kernel, device: Ref<'IommufdDevice'>): Ref<'Hwpt'> {
  const group = IommufdDevice.group.peek(kernel.memory, device);
  IommufdGroup.lock.acquire(kernel.memory, group);
  const hwpt = IommufdGroup.hwpt.read(kernel.memory, group);
  IommufdGroup.lock.release(kernel.memory, group);
  return hwpt;
}
