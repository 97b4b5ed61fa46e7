/**
 * System calls of the current process: what a VMM's thread can do. Every ioctl goes through one dispatcher, which finds
 * the file, runs the handler and puts whatever the handler got, on every way out.
 */
import type { Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { closeFd, File, FileKind, getFile, openIommufd, putFile } from './file.ts';
import {
  ioasAlloc, ioasAllowIovas, ioasIovaRanges, ioasMap, ioasUnmap,
  type IoasAlloc, type IoasAllowIovas, type IoasIovaRanges, type IoasMap, type IoasUnmap,
} from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { removeObject } from './objects.ts';
import { granted, openVfio, vfioAttach, vfioBind, vfioDetach, vfioRegionInfo } from './vfio.ts';
import type { VfioAttach, VfioBind, VfioDetach, VfioRegionInfo } from './vfio.ts';

export interface Destroy { id: number }

/** Commands of /dev/iommu and the type of their argument, which is read and written like the user's struct. */
export interface IommufdCommands {
  IOMMU_DESTROY: Destroy;
  IOMMU_IOAS_ALLOC: IoasAlloc;
  IOMMU_IOAS_ALLOW_IOVAS: IoasAllowIovas;
  IOMMU_IOAS_IOVA_RANGES: IoasIovaRanges;
  IOMMU_IOAS_MAP: IoasMap;
  IOMMU_IOAS_UNMAP: IoasUnmap;
}

/** Commands of a VFIO character device. */
export interface VfioCommands {
  VFIO_DEVICE_BIND_IOMMUFD: VfioBind;
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: VfioAttach;
  VFIO_DEVICE_DETACH_IOMMUFD_PT: VfioDetach;
  VFIO_DEVICE_GET_REGION_INFO: VfioRegionInfo;
}

export type Commands = IommufdCommands & VfioCommands;

type IommufdHandler<A> = (kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: A) => void;
type VfioHandler<A> = (kernel: Kernel, file: Ref<'VfioFile'>, arg: A) => void;

const iommufdHandlers: { readonly [N in keyof IommufdCommands]: IommufdHandler<IommufdCommands[N]> } = {
  IOMMU_DESTROY: (kernel, iommufd, { id }) => removeObject(kernel, iommufd, id),
  IOMMU_IOAS_ALLOC: ioasAlloc,
  IOMMU_IOAS_ALLOW_IOVAS: ioasAllowIovas,
  IOMMU_IOAS_IOVA_RANGES: ioasIovaRanges,
  IOMMU_IOAS_MAP: ioasMap,
  IOMMU_IOAS_UNMAP: ioasUnmap,
};

const vfioHandlers: { readonly [N in keyof VfioCommands]: VfioHandler<VfioCommands[N]> } = {
  VFIO_DEVICE_BIND_IOMMUFD: vfioBind,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: vfioAttach,
  VFIO_DEVICE_DETACH_IOMMUFD_PT: vfioDetach,
  VFIO_DEVICE_GET_REGION_INFO: vfioRegionInfo,
};

/** open(2) of `/dev/iommu` or `/dev/vfio/devices/vfioN`; returns the descriptor. ENOENT. */
export function open(kernel: Kernel, path: string): number {
  if (path === '/dev/iommu') return openIommufd(kernel);
  const vfio = /^\/dev\/vfio\/devices\/vfio(\d+)$/.exec(path);
  if (vfio === null) fail('ENOENT', `there is no ${path}`);
  return openVfio(kernel, Number(vfio[1]));
}

/** close(2). EBADF. */
export function close(kernel: Kernel, fd: number): void {
  closeFd(kernel, fd);
}

/** ioctl(2): throws `Errno`; what the kernel writes is in `arg` afterwards, also when it failed. EBADF, ENOTTY. */
export function ioctl<N extends keyof Commands>(kernel: Kernel, fd: number, command: N, arg: Commands[N]): void {
  const file = getFile(kernel, fd);
  try {
    const body = File.body.peek(kernel.memory, file);
    const kind = File.kind.peek(kernel.memory, file);
    if (kind === FileKind.IOMMUFD) {
      const handler = iommufdHandlers[command as keyof IommufdCommands] as IommufdHandler<Commands[N]> | undefined;
      if (handler === undefined) fail('ENOTTY', `${command} is no command of /dev/iommu`);
      handler(kernel, body as Ref<'Iommufd'>, arg);
    } else {
      const handler = vfioHandlers[command as keyof VfioCommands] as VfioHandler<Commands[N]> | undefined;
      if (handler === undefined) {
        granted(kernel, body as Ref<'VfioFile'>);
        fail('ENOTTY', `${command} is no command of a VFIO device`);
      }
      handler(kernel, body as Ref<'VfioFile'>, arg);
    }
  } finally {
    kernel.putHeld();
    putFile(kernel, file);
  }
}
