/**
 * System calls of the current process: what a VMM's thread can do. Every ioctl goes through one dispatcher, which finds
 * the file, runs the handler and puts whatever the handler got, on every way out.
 */
import type { Ref } from '#hostmem/object';
import { getDirtyBitmap, setDirtyTracking, type GetDirtyBitmap, type SetDirtyTracking } from './dirty.ts';
import { fail } from './errno.ts';
import { faultQueueAlloc, type FaultQueueAlloc } from './fault-queue.ts';
import { closeFd, File, FileKind, getFile, openIommufd, putFile } from './file.ts';
import { getHwInfo, type GetHwInfo } from './hw-info.ts';
import { hwptAlloc, type HwptAlloc } from './hwpt-alloc.ts';
import {
  ioasAlloc, ioasAllowIovas, ioasIovaRanges, ioasMap, ioasUnmap,
  type IoasAlloc, type IoasAllowIovas, type IoasIovaRanges, type IoasMap, type IoasUnmap,
} from './ioas.ts';
import { ioasCopy, type IoasCopy } from './ioas-copy.ts';
import type { Kernel } from './kernel.ts';
import { removeObject } from './objects.ts';
import { granted, openVfio, vfioAttach, vfioBind, vfioDetach, type VfioAttach, type VfioBind, type VfioDetach } from './vfio.ts';
import { groupGetDeviceFd, groupSetContainer, openVfioGroup, type GroupGetDeviceFd, type GroupSetContainer } from './vfio-group.ts';
import { vfioDeviceInfo, vfioRegionInfo, vfioReset, type VfioDeviceInfo, type VfioRegionInfo } from './vfio-info.ts';
import { viommuAlloc, type ViommuAlloc } from './viommu.ts';

export interface Destroy { id: number }

/** What every command of /dev/iommu carries; a caller that leaves `size` out has a struct of the size that the kernel knows. */
export interface Sized {
  /** Bytes of the user's struct, as the user says. */
  size?: number;
  /** Some byte behind what the kernel knows is not 0. */
  nonzeroTail?: boolean;
}

/** Commands of /dev/iommu and the type of their argument, which is read and written like the user's struct. */
export interface IommufdCommands {
  IOMMU_DESTROY: Destroy & Sized;
  IOMMU_FAULT_QUEUE_ALLOC: FaultQueueAlloc & Sized;
  IOMMU_GET_HW_INFO: GetHwInfo & Sized;
  IOMMU_HWPT_ALLOC: HwptAlloc & Sized;
  IOMMU_HWPT_GET_DIRTY_BITMAP: GetDirtyBitmap & Sized;
  IOMMU_HWPT_SET_DIRTY_TRACKING: SetDirtyTracking & Sized;
  IOMMU_IOAS_ALLOC: IoasAlloc & Sized;
  IOMMU_IOAS_ALLOW_IOVAS: IoasAllowIovas & Sized;
  IOMMU_IOAS_COPY: IoasCopy & Sized;
  IOMMU_IOAS_IOVA_RANGES: IoasIovaRanges & Sized;
  IOMMU_IOAS_MAP: IoasMap & Sized;
  IOMMU_IOAS_UNMAP: IoasUnmap & Sized;
  IOMMU_VIOMMU_ALLOC: ViommuAlloc & Sized;
}

/** Commands of a VFIO device. */
export interface VfioCommands {
  VFIO_DEVICE_BIND_IOMMUFD: VfioBind;
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: VfioAttach;
  VFIO_DEVICE_DETACH_IOMMUFD_PT: VfioDetach;
  VFIO_DEVICE_GET_INFO: VfioDeviceInfo;
  VFIO_DEVICE_GET_REGION_INFO: VfioRegionInfo;
  VFIO_DEVICE_RESET: Record<string, never>;
}

/** Commands of a legacy group file. */
export interface VfioGroupCommands {
  VFIO_GROUP_SET_CONTAINER: GroupSetContainer;
  VFIO_GROUP_GET_DEVICE_FD: GroupGetDeviceFd;
}

export type Commands = IommufdCommands & VfioCommands & VfioGroupCommands;

type Handler<R extends Ref, A> = (kernel: Kernel, body: R, arg: A) => void;

/** A command of /dev/iommu: where its smallest struct ends, and the one that the kernel knows, in bytes (SEMANTICS A2). */
interface IommufdCommand<A> {
  readonly smallest: number;
  readonly known: number;
  readonly handle: Handler<Ref<'Iommufd'>, A>;
}

const iommufdCommands: { readonly [N in keyof IommufdCommands]: IommufdCommand<IommufdCommands[N]> } = {
  IOMMU_DESTROY: { smallest: 8, known: 8, handle: (kernel, iommufd, { id }) => removeObject(kernel, iommufd, id) },
  IOMMU_FAULT_QUEUE_ALLOC: { smallest: 16, known: 16, handle: faultQueueAlloc },
  IOMMU_GET_HW_INFO: { smallest: 32, known: 40, handle: getHwInfo },
  IOMMU_HWPT_ALLOC: { smallest: 24, known: 48, handle: hwptAlloc },
  IOMMU_HWPT_GET_DIRTY_BITMAP: { smallest: 48, known: 48, handle: getDirtyBitmap },
  IOMMU_HWPT_SET_DIRTY_TRACKING: { smallest: 16, known: 16, handle: setDirtyTracking },
  IOMMU_IOAS_ALLOC: { smallest: 12, known: 12, handle: ioasAlloc },
  IOMMU_IOAS_ALLOW_IOVAS: { smallest: 24, known: 24, handle: ioasAllowIovas },
  IOMMU_IOAS_COPY: { smallest: 40, known: 40, handle: ioasCopy },
  IOMMU_IOAS_IOVA_RANGES: { smallest: 32, known: 32, handle: ioasIovaRanges },
  IOMMU_IOAS_MAP: { smallest: 40, known: 40, handle: ioasMap },
  IOMMU_IOAS_UNMAP: { smallest: 24, known: 24, handle: ioasUnmap },
  IOMMU_VIOMMU_ALLOC: { smallest: 24, known: 40, handle: viommuAlloc },
};

const vfioHandlers: { readonly [N in keyof VfioCommands]: Handler<Ref<'VfioFile'>, VfioCommands[N]> } = {
  VFIO_DEVICE_BIND_IOMMUFD: vfioBind,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: vfioAttach,
  VFIO_DEVICE_DETACH_IOMMUFD_PT: vfioDetach,
  VFIO_DEVICE_GET_INFO: vfioDeviceInfo,
  VFIO_DEVICE_GET_REGION_INFO: vfioRegionInfo,
  VFIO_DEVICE_RESET: vfioReset,
};

const groupHandlers: { readonly [N in keyof VfioGroupCommands]: Handler<Ref<'VfioGroup'>, VfioGroupCommands[N]> } = {
  VFIO_GROUP_SET_CONTAINER: groupSetContainer,
  VFIO_GROUP_GET_DEVICE_FD: groupGetDeviceFd,
};

/** open(2) of `/dev/iommu`, `/dev/vfio/devices/vfioN` or `/dev/vfio/N`; returns the descriptor. ENOENT, EBUSY, ENOMEM. */
export function open(kernel: Kernel, path: string): number {
  if (path === '/dev/iommu') return openIommufd(kernel);
  const [, devices, number] = /^\/dev\/vfio\/(devices\/vfio)?(\d+)$/.exec(path) ?? fail('ENOENT', `there is no ${path}`);
  return devices === undefined ? openVfioGroup(kernel, Number(number)) : openVfio(kernel, Number(number));
}

/** close(2). EBADF. */
export function close(kernel: Kernel, fd: number): void {
  closeFd(kernel, fd);
}

/** ioctl(2): throws `Errno`; what the kernel writes is in `arg` afterwards, also when it failed. EBADF, ENOTTY. */
export function ioctl<N extends keyof Commands>(kernel: Kernel, fd: number, command: N, arg: Commands[N]): void {
  const file = getFile(kernel, fd);
  try {
    dispatch(kernel, File.kind.peek(kernel.memory, file), File.body.peek(kernel.memory, file), command, arg);
  } finally {
    kernel.putHeld();
    putFile(kernel, file);
  }
}

function dispatch(kernel: Kernel, kind: number, body: number, command: string, arg: object): void {
  if (kind === FileKind.IOMMUFD) {
    const found = iommufdCommands[command as keyof IommufdCommands] as IommufdCommand<object> | undefined;
    if (found === undefined) fail('ENOTTY', `${command} is no command of /dev/iommu`);
    checkSize(found, arg);
    found.handle(kernel, body as Ref<'Iommufd'>, arg);
  } else if (kind === FileKind.VFIO) {
    const handler = vfioHandlers[command as keyof VfioCommands] as Handler<Ref<'VfioFile'>, object> | undefined;
    if (handler === undefined) granted(kernel, body as Ref<'VfioFile'>);
    if (handler === undefined) fail('ENOTTY', `${command} is no command of a VFIO device`);
    handler(kernel, body as Ref<'VfioFile'>, arg);
  } else {
    const handler = kind === FileKind.VFIO_GROUP ? groupHandlers[command as keyof VfioGroupCommands] : undefined;
    if (handler === undefined) fail('ENOTTY', `${command} is no command of this file`);
    (handler as Handler<Ref<'VfioGroup'>, object>)(kernel, body as Ref<'VfioGroup'>, arg);
  }
}

/** EINVAL for a struct that is too short, E2BIG for one with more in it than the kernel knows (SEMANTICS A3). */
function checkSize({ smallest, known }: IommufdCommand<object>, { size = known, nonzeroTail = false }: Sized): void {
  if (size < smallest) fail('EINVAL', `the struct has ${size} bytes, ${smallest} are the least`);
  if (size > known && nonzeroTail) fail('E2BIG', `the struct has bytes behind the ${known} that are known`);
}
