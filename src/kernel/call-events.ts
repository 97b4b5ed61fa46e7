/** Tells that a system call began and ended, under a number for its command: events carry no names. */
import { Errno, errnoNumber } from './errno.ts';
import { CallBegan, CallEnded } from './events.ts';
import type { Kernel } from './kernel.ts';

/** What has a number, in its order from 1 (the last is a kernel driver's call); operations of the selftest are 0, all of them. */
const commandNames = [
  'open', 'close', 'IOMMU_DESTROY', 'IOMMU_IOAS_ALLOC', 'IOMMU_IOAS_ALLOW_IOVAS', 'IOMMU_IOAS_COPY', 'IOMMU_IOAS_IOVA_RANGES', 'IOMMU_IOAS_MAP',
  'IOMMU_IOAS_UNMAP', 'IOMMU_OPTION', 'IOMMU_VFIO_IOAS', 'IOMMU_HWPT_ALLOC', 'IOMMU_GET_HW_INFO', 'IOMMU_HWPT_SET_DIRTY_TRACKING',
  'IOMMU_HWPT_GET_DIRTY_BITMAP', 'IOMMU_HWPT_INVALIDATE', 'IOMMU_FAULT_QUEUE_ALLOC', 'IOMMU_VIOMMU_ALLOC', 'IOMMU_VDEVICE_ALLOC',
  'IOMMU_IOAS_CHANGE_PROCESS', 'IOMMU_VEVENTQ_ALLOC', 'IOMMU_HW_QUEUE_ALLOC', 'VFIO_GET_API_VERSION', 'VFIO_CHECK_EXTENSION', 'VFIO_SET_IOMMU',
  'VFIO_IOMMU_GET_INFO', 'VFIO_IOMMU_MAP_DMA', 'VFIO_IOMMU_UNMAP_DMA', 'VFIO_DEVICE_BIND_IOMMUFD', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
  'VFIO_DEVICE_DETACH_IOMMUFD_PT', 'VFIO_DEVICE_GET_INFO', 'VFIO_DEVICE_GET_REGION_INFO', 'VFIO_DEVICE_RESET', 'VFIO_GROUP_SET_CONTAINER',
  'VFIO_GROUP_GET_DEVICE_FD', 'IOMMU_IOAS_MAP_FILE', 'iommufd_device_replace', 'exit',
];

export const commandNumber = (name: string): number => commandNames.indexOf(name) + 1;
export const commandName = (number: number): string => commandNames[number - 1] ?? 'a test operation';

/** Returns the number for `callEnded`. */
export function callBegan({ memory, processNumber }: Kernel, name: string): number {
  if (memory.history === null) return 0;
  const number = commandNumber(name);
  CallBegan.emit(memory, number, processNumber);
  return number;
}

export function callEnded({ memory, processNumber }: Kernel, number: number, errno: number): void {
  if (errno >= 0) CallEnded.emit(memory, number, processNumber, errno);
}

/** As events have it; -1 for what is no errno: then the call has not ended. */
export const thrownErrno = (error: unknown): number => (error instanceof Errno ? errnoNumber(error.name) : -1);
