/** IOMMU_VIOMMU_ALLOC (`iommufd_viommu_alloc_ioctl`): Linux 7.2 has no vIOMMU type for VT-d, so the driver refuses every one. */
import type { Ref } from '#hostmem/object';
import type { TailField } from './argument.ts';
import { fail } from './errno.ts';
import { getDevice } from './iommufd-device.ts';
import type { Kernel } from './kernel.ts';

export interface ViommuAlloc { flags: number; type: number; devId: number; hwptId: number; outViommuId: number }

export const viommuAllocTail: readonly TailField[] = [
  { name: 'dataLength', offset: 24, bytes: 4 }, { name: 'reserved', offset: 28, bytes: 4 }, { name: 'data', offset: 32, bytes: 8 },
];

/** EOPNOTSUPP, ENOENT for the device; the HWPT is not looked at. */
export function viommuAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: ViommuAlloc): void {
  if (arg.flags !== 0 || arg.type === 0) fail('EOPNOTSUPP', 'unknown flags, or no type');
  getDevice(kernel, iommufd, arg.devId);
  fail('EOPNOTSUPP', `the driver has no vIOMMU of type ${arg.type}`);
}
