/**
 * System calls of the current process: what a VMM's thread can do. Every ioctl goes through one dispatcher, which finds
 * the file, runs the handler and puts whatever the handler got, on every way out.
 */
import type { Ref } from '#hostmem/object';
import { checkSize, cutTail, restoreTail, type Sized, type TailField } from './argument.ts';
import { callBegan, callEnded, thrownErrno } from './call-events.ts';
import { ioasChangeProcess, type IoasChangeProcess } from './change-process.ts';
import { vfioIoas, type VfioIoas } from './compat-ioas.ts';
import { getDirtyBitmap, setDirtyTracking, type GetDirtyBitmap, type SetDirtyTracking } from './dirty.ts';
import { fail } from './errno.ts';
import { eventQueueAlloc, hasEvents, readEvents, type EventQueueAlloc } from './event-queue.ts';
import { faultQueueAlloc, hasRequests, readRequests, writeResponses, type FaultQueueAlloc } from './fault-queue.ts';
import { closeFd, getFile, openIommufd, putFile } from './file.ts';
import { File, FileKind } from './open-file.ts';
import { getHwInfo, getHwInfoTail, type GetHwInfo } from './hw-info.ts';
import { hwQueueAlloc, type HwQueueAlloc } from './hw-queue.ts';
import { hwptInvalidate, type HwptInvalidate } from './hwpt-invalidate.ts';
import { hwptAlloc, hwptAllocTail, type HwptAlloc } from './hwpt-alloc.ts';
import {
  ioasAlloc, ioasAllowIovas, ioasIovaRanges, ioasMap, ioasUnmap,
  type IoasAlloc, type IoasAllowIovas, type IoasIovaRanges, type IoasMap, type IoasUnmap,
} from './ioas.ts';
import { ioasCopy, type IoasCopy } from './ioas-copy.ts';
import { ioasMapFile, type IoasMapFile } from './ioas-map-file.ts';
import type { Kernel } from './kernel.ts';
import { option, type Option } from './option.ts';
import { granted, openVfio, vfioAttach, vfioBind, vfioDetach, type VfioAttach, type VfioBind, type VfioDetach } from './vfio.ts';
import {
  compatApiVersion, compatCheckExtension, compatGetInfo, compatMapDma, compatSetIommu, compatUnmapDma,
  type CompatGetInfo, type CompatMapDma, type CompatUnmapDma, type PlainArgument,
} from './vfio-compat.ts';
import { vfioFeature, type VfioFeature } from './vfio-dmabuf.ts';
import { groupGetDeviceFd, groupSetContainer, openVfioGroup, type GroupGetDeviceFd, type GroupSetContainer } from './vfio-group.ts';
import { vfioDeviceInfo, vfioRegionInfo, vfioReset, type VfioDeviceInfo, type VfioRegionInfo } from './vfio-info.ts';
import { vdeviceAlloc, type VdeviceAlloc } from './vdevice.ts';
import { viommuAlloc, viommuAllocTail, type ViommuAlloc } from './viommu.ts';

export interface Destroy { id: number }

/** Commands of /dev/iommu and the type of their argument, which is read and written like the user's struct. */
export interface IommufdCommands {
  IOMMU_DESTROY: Destroy & Sized;
  IOMMU_FAULT_QUEUE_ALLOC: FaultQueueAlloc & Sized;
  IOMMU_GET_HW_INFO: GetHwInfo & Sized;
  IOMMU_HWPT_ALLOC: HwptAlloc & Sized;
  IOMMU_HWPT_GET_DIRTY_BITMAP: GetDirtyBitmap & Sized;
  IOMMU_HWPT_SET_DIRTY_TRACKING: SetDirtyTracking & Sized;
  IOMMU_HWPT_INVALIDATE: HwptInvalidate & Sized;
  IOMMU_HW_QUEUE_ALLOC: HwQueueAlloc & Sized;
  IOMMU_IOAS_ALLOC: IoasAlloc & Sized;
  IOMMU_IOAS_ALLOW_IOVAS: IoasAllowIovas & Sized;
  IOMMU_IOAS_CHANGE_PROCESS: IoasChangeProcess & Sized;
  IOMMU_IOAS_COPY: IoasCopy & Sized;
  IOMMU_IOAS_IOVA_RANGES: IoasIovaRanges & Sized;
  IOMMU_IOAS_MAP: IoasMap & Sized;
  IOMMU_IOAS_MAP_FILE: IoasMapFile & Sized;
  IOMMU_IOAS_UNMAP: IoasUnmap & Sized;
  IOMMU_OPTION: Option & Sized;
  IOMMU_VDEVICE_ALLOC: VdeviceAlloc & Sized;
  IOMMU_VEVENTQ_ALLOC: EventQueueAlloc & Sized;
  IOMMU_VFIO_IOAS: VfioIoas & Sized;
  IOMMU_VIOMMU_ALLOC: ViommuAlloc & Sized;
}

/** Commands of a VFIO container, which /dev/iommu answers too (`iommufd_vfio_ioctl`). They check their sizes themselves. */
export interface CompatCommands {
  VFIO_GET_API_VERSION: PlainArgument;
  VFIO_CHECK_EXTENSION: PlainArgument;
  VFIO_SET_IOMMU: PlainArgument;
  VFIO_IOMMU_GET_INFO: CompatGetInfo;
  VFIO_IOMMU_MAP_DMA: CompatMapDma;
  VFIO_IOMMU_UNMAP_DMA: CompatUnmapDma;
}

/** Commands of a VFIO device. */
export interface VfioCommands {
  VFIO_DEVICE_BIND_IOMMUFD: VfioBind;
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: VfioAttach;
  VFIO_DEVICE_DETACH_IOMMUFD_PT: VfioDetach;
  VFIO_DEVICE_GET_INFO: VfioDeviceInfo;
  VFIO_DEVICE_GET_REGION_INFO: VfioRegionInfo;
  VFIO_DEVICE_RESET: Record<string, never>;
  VFIO_DEVICE_FEATURE: VfioFeature;
}

/** Commands of a legacy group file. */
export interface VfioGroupCommands {
  VFIO_GROUP_SET_CONTAINER: GroupSetContainer;
  VFIO_GROUP_GET_DEVICE_FD: GroupGetDeviceFd;
}

export type Commands = IommufdCommands & CompatCommands & VfioCommands & VfioGroupCommands;

/** What a handler returns, if anything, is what ioctl(2) returns. */
type Handler<R extends Ref, A> = (kernel: Kernel, body: R, arg: A) => number | void;

/** A command of /dev/iommu: where its smallest struct ends, and the one that the kernel knows, in bytes (SEMANTICS A2). */
interface IommufdCommand<A> {
  /** The lowest byte of the command word, whose next is `;`. */
  readonly number: number;
  readonly smallest: number;
  readonly known: number;
  /** What lies between the two. */
  readonly tail?: readonly TailField[];
  readonly handle: Handler<Ref<'Iommufd'>, A>;
}

const iommufdCommands: { readonly [N in keyof IommufdCommands]: IommufdCommand<IommufdCommands[N]> } = {
  IOMMU_DESTROY: { number: 0x80, smallest: 8, known: 8, handle: (kernel, iommufd, { id }) => kernel.operations.objects.remove(kernel, iommufd, id) },
  IOMMU_IOAS_ALLOC: { number: 0x81, smallest: 12, known: 12, handle: ioasAlloc },
  IOMMU_IOAS_ALLOW_IOVAS: { number: 0x82, smallest: 24, known: 24, handle: ioasAllowIovas },
  IOMMU_IOAS_COPY: { number: 0x83, smallest: 40, known: 40, handle: ioasCopy },
  IOMMU_IOAS_IOVA_RANGES: { number: 0x84, smallest: 32, known: 32, handle: ioasIovaRanges },
  IOMMU_IOAS_MAP: { number: 0x85, smallest: 40, known: 40, handle: ioasMap },
  IOMMU_IOAS_UNMAP: { number: 0x86, smallest: 24, known: 24, handle: ioasUnmap },
  IOMMU_OPTION: { number: 0x87, smallest: 24, known: 24, handle: option },
  IOMMU_VFIO_IOAS: { number: 0x88, smallest: 12, known: 12, handle: vfioIoas },
  IOMMU_HWPT_ALLOC: { number: 0x89, smallest: 24, known: 48, tail: hwptAllocTail, handle: hwptAlloc },
  IOMMU_GET_HW_INFO: { number: 0x8a, smallest: 32, known: 40, tail: getHwInfoTail, handle: getHwInfo },
  IOMMU_HWPT_SET_DIRTY_TRACKING: { number: 0x8b, smallest: 16, known: 16, handle: setDirtyTracking },
  IOMMU_HWPT_GET_DIRTY_BITMAP: { number: 0x8c, smallest: 48, known: 48, handle: getDirtyBitmap },
  IOMMU_HWPT_INVALIDATE: { number: 0x8d, smallest: 32, known: 32, handle: hwptInvalidate },
  IOMMU_FAULT_QUEUE_ALLOC: { number: 0x8e, smallest: 16, known: 16, handle: faultQueueAlloc },
  IOMMU_IOAS_MAP_FILE: { number: 0x8f, smallest: 40, known: 40, handle: ioasMapFile },
  IOMMU_VIOMMU_ALLOC: { number: 0x90, smallest: 24, known: 40, tail: viommuAllocTail, handle: viommuAlloc },
  IOMMU_VDEVICE_ALLOC: { number: 0x91, smallest: 24, known: 24, handle: vdeviceAlloc },
  IOMMU_IOAS_CHANGE_PROCESS: { number: 0x92, smallest: 8, known: 8, handle: ioasChangeProcess },
  IOMMU_VEVENTQ_ALLOC: { number: 0x93, smallest: 32, known: 32, handle: eventQueueAlloc },
  IOMMU_HW_QUEUE_ALLOC: { number: 0x94, smallest: 40, known: 40, handle: hwQueueAlloc },
};

const compatCommands: { readonly [N in keyof CompatCommands]: { readonly number: number; readonly handle: Handler<Ref<'Iommufd'>, CompatCommands[N]> } } = {
  VFIO_GET_API_VERSION: { number: 0x64, handle: compatApiVersion },
  VFIO_CHECK_EXTENSION: { number: 0x65, handle: compatCheckExtension },
  VFIO_SET_IOMMU: { number: 0x66, handle: compatSetIommu },
  VFIO_IOMMU_GET_INFO: { number: 0x70, handle: compatGetInfo },
  VFIO_IOMMU_MAP_DMA: { number: 0x71, handle: compatMapDma },
  VFIO_IOMMU_UNMAP_DMA: { number: 0x72, handle: compatUnmapDma },
};

const vfioHandlers: { readonly [N in keyof VfioCommands]: Handler<Ref<'VfioFile'>, VfioCommands[N]> } = {
  VFIO_DEVICE_BIND_IOMMUFD: vfioBind,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: vfioAttach,
  VFIO_DEVICE_DETACH_IOMMUFD_PT: vfioDetach,
  VFIO_DEVICE_GET_INFO: vfioDeviceInfo,
  VFIO_DEVICE_GET_REGION_INFO: vfioRegionInfo,
  VFIO_DEVICE_RESET: vfioReset,
  VFIO_DEVICE_FEATURE: vfioFeature,
};

const groupHandlers: { readonly [N in keyof VfioGroupCommands]: Handler<Ref<'VfioGroup'>, VfioGroupCommands[N]> } = {
  VFIO_GROUP_SET_CONTAINER: groupSetContainer,
  VFIO_GROUP_GET_DEVICE_FD: groupGetDeviceFd,
};

/** open(2) of `/dev/iommu`, `/dev/vfio/devices/vfioN` or `/dev/vfio/N`; returns the descriptor. ENOENT, EBUSY, ENOMEM. */
export function open(kernel: Kernel, path: string): number {
  const call = callBegan(kernel, 'open');
  let errno = 0;
  try {
    return openPath(kernel, path);
  } catch (error) {
    errno = thrownErrno(error);
    throw error;
  } finally {
    callEnded(kernel, call, errno);
  }
}

function openPath(kernel: Kernel, path: string): number {
  if (path === '/dev/iommu') return openIommufd(kernel);
  const [, devices, number] = /^\/dev\/vfio\/(devices\/vfio)?(\d+)$/.exec(path) ?? fail('ENOENT', `there is no ${path}`);
  return devices === undefined ? openVfioGroup(kernel, Number(number)) : openVfio(kernel, Number(number));
}

/** close(2). EBADF. */
export function close(kernel: Kernel, fd: number): void {
  const call = callBegan(kernel, 'close');
  let errno = 0;
  try {
    closeFd(kernel, fd);
  } catch (error) {
    errno = thrownErrno(error);
    throw error;
  } finally {
    callEnded(kernel, call, errno);
  }
}

/**
 * ioctl(2): throws `Errno`; what the kernel writes is in `arg` afterwards, also when it failed. Returns what the call returns. EBADF, ENOTTY.
 */
export function ioctl<N extends keyof Commands>(kernel: Kernel, fd: number, command: N, arg: Commands[N]): number {
  const call = callBegan(kernel, command);
  let errno = 0;
  try {
    return ioctlOnFile(kernel, fd, command, arg);
  } catch (error) {
    errno = thrownErrno(error);
    throw error;
  } finally {
    callEnded(kernel, call, errno);
  }
}

function ioctlOnFile<N extends keyof Commands>(kernel: Kernel, fd: number, command: N, arg: Commands[N]): number {
  const file = getFile(kernel, fd);
  try {
    return dispatch(kernel, File.kind.peek(kernel.memory, file), File.body.peek(kernel.memory, file), command, arg) ?? 0;
  } finally {
    kernel.putHeld();
    putFile(kernel, file);
  }
}

/** read(2) from the start of a queue's descriptor. EBADF, EINVAL for a file that is not read, and what the queue says. */
export function read(kernel: Kernel, fd: number, count: number): Uint8Array {
  const file = getFile(kernel, fd);
  try {
    const kind = File.kind.peek(kernel.memory, file);
    const body = File.body.peek(kernel.memory, file);
    if (kind === FileKind.FAULT_QUEUE) return readRequests(kernel, body as Ref<'FaultQueue'>, count);
    if (kind === FileKind.EVENT_QUEUE) return readEvents(kernel, body as Ref<'EventQueue'>, count);
    return fail('EINVAL', 'the file is not read');
  } finally {
    putFile(kernel, file);
  }
}

/** write(2) to a queue's descriptor; returns the bytes taken. EBADF, EINVAL for a file that is not written, and what the queue says. */
export function write(kernel: Kernel, fd: number, bytes: Uint8Array): number {
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(kernel.memory, file) !== FileKind.FAULT_QUEUE) fail('EINVAL', 'the file is not written');
    return writeResponses(kernel, File.body.peek(kernel.memory, file) as Ref<'FaultQueue'>, bytes);
  } finally {
    putFile(kernel, file);
  }
}

/** poll(2) without waiting. EBADF. */
export function poll(kernel: Kernel, fd: number): { readonly readable: boolean; readonly writable: boolean } {
  const file = getFile(kernel, fd);
  try {
    const kind = File.kind.peek(kernel.memory, file);
    const body = File.body.peek(kernel.memory, file);
    if (kind === FileKind.FAULT_QUEUE) return { readable: hasRequests(kernel, body as Ref<'FaultQueue'>), writable: true };
    if (kind === FileKind.EVENT_QUEUE) return { readable: hasEvents(kernel, body as Ref<'EventQueue'>), writable: false };
    return { readable: true, writable: true };
  } finally {
    putFile(kernel, file);
  }
}

/** Numbers of iommufd's table: the last is the selftest's, and there are holes before it. */
const firstNumber = 0x80;
const lastNumber = 0xa0;

/**
 * ioctl(2) with a command word that is no command of the file. EINVAL for a VFIO device that is not bound, EFAULT when the number lies in iommufd's
 * table and the argument cannot be read, else ENOTTY.
 */
export function ioctlUnknown(kernel: Kernel, fd: number, word: number, { argument }: Pick<Sized, 'argument'>): never {
  const file = getFile(kernel, fd);
  try {
    const kind = File.kind.peek(kernel.memory, file);
    if (kind === FileKind.VFIO) granted(kernel, File.body.peek(kernel.memory, file) as Ref<'VfioFile'>);
    const number = word & 0xff;
    const inTable = kind === FileKind.IOMMUFD && number >= firstNumber && number <= lastNumber;
    if (inTable && argument === 'absent') fail('EFAULT', 'the argument cannot be read');
    return fail('ENOTTY', `0x${word.toString(16)} is no command of this file`);
  } finally {
    putFile(kernel, file);
  }
}

function dispatch(kernel: Kernel, kind: number, body: number, command: string, arg: object): number | void {
  if (kind === FileKind.IOMMUFD) return dispatchIommufd(kernel, body as Ref<'Iommufd'>, command, arg);
  if (kind === FileKind.VFIO) {
    const handler = vfioHandlers[command as keyof VfioCommands] as Handler<Ref<'VfioFile'>, object> | undefined;
    if (handler === undefined) granted(kernel, body as Ref<'VfioFile'>);
    if (handler === undefined) fail('ENOTTY', `${command} is no command of a VFIO device`);
    return handler(kernel, body as Ref<'VfioFile'>, arg);
  }
  const handler = kind === FileKind.VFIO_GROUP ? groupHandlers[command as keyof VfioGroupCommands] : undefined;
  if (handler === undefined) fail('ENOTTY', `${command} is no command of this file`);
  return (handler as Handler<Ref<'VfioGroup'>, object>)(kernel, body as Ref<'VfioGroup'>, arg);
}

/** Numbers outside of iommufd's table are those of a VFIO container (SEMANTICS A3). */
function dispatchIommufd(kernel: Kernel, iommufd: Ref<'Iommufd'>, command: string, arg: object): number | void {
  const found = iommufdCommands[command as keyof IommufdCommands] as IommufdCommand<object> | undefined;
  if (found === undefined) {
    const compat = compatCommands[command as keyof CompatCommands] as { handle: Handler<Ref<'Iommufd'>, object> } | undefined;
    if (compat === undefined) fail('ENOTTY', `${command} is no command of /dev/iommu`);
    return compat.handle(kernel, iommufd, arg);
  }
  checkSize(arg, found.smallest, found.known);
  const { tail } = found;
  if (tail === undefined) return found.handle(kernel, iommufd, arg);
  const { size } = arg as Sized;
  const before = cutTail(arg, size, tail);
  try {
    return found.handle(kernel, iommufd, arg);
  } finally {
    restoreTail(arg, size, tail, before);
  }
}
