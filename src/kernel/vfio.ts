/**
 * VFIO's character devices: open, bind, attach, detach, close (drivers/vfio/device_cdev.c, vfio_main.c, iommufd.c).
 *
 * `DevSet.lock` spans bind, attach, detach and close of all devices whose reset is shared; functions of one device on a
 * root bus have a set each. Until bind has finished nothing but bind is possible.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, Errno, errnoNumber, fail } from './errno.ts';
import { VfioCall, VfioCalled, VfioReturned } from './events.ts';
import { File, FileKind, getFile, putFile, tryInstallFile } from './file.ts';
import { putHwpt } from './hwpt.ts';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import { bindDevice, Change, changePt, IommufdDevice, unbindDevice } from './iommufd-device.ts';
import type { Kernel } from './kernel.ts';
import { addUser, dropUser, Iommufd, IommufdObject, putIommufd } from './objects.ts';

export const DevSet = object('DevSet', { lock: mutex });

export const VfioDevice = object('VfioDevice', {
  /** `/dev/vfio/devices/vfio<number>`. */
  number: u32,
  device: ref('PciDevice'),
  devSet: ref('DevSet'),
  openCount: u32.under('devSet.lock'),
  iommufdDevice: ref('IommufdDevice').under('devSet.lock'),
  attached: u32.under('devSet.lock'),
  next: ref('VfioDevice'),
});

/** One open of the character device (`struct vfio_device_file`). */
export const VfioFile = object('VfioFile', {
  device: ref('VfioDevice'),
  /** Set last by bind; read by every other ioctl. */
  accessGranted: u32,
  iommufd: ref('Iommufd'),
});

export interface VfioBind { argsz: number; flags: number; iommufd: number; outDevid: number }
export interface VfioAttach { argsz: number; flags: number; ptId: number }
export interface VfioDetach { argsz: number; flags: number }
export interface VfioRegionInfo { argsz: number; flags: number; index: number; size: bigint; offset: bigint }

/** Opens `/dev/vfio/devices/vfio<n>`; possible any number of times, binding is not. ENOENT, ENOMEM. */
export function openVfio(kernel: Kernel, number: number): number {
  const memory = kernel.memory;
  let device = kernel.firstVfioDevice;
  while (device !== NULL && VfioDevice.number.peek(memory, device) !== number) device = VfioDevice.next.peek(memory, device);
  if (device === NULL) fail('ENOENT', `there is no vfio${number}`);
  const file = allocated(VfioFile.tryCreate(memory));
  VfioFile.device.poke(memory, file, device);
  const fd = tryInstallFile(kernel, FileKind.VFIO, file);
  if (fd < 0) VfioFile.free(memory, file);
  return fd < 0 ? fail('ENOMEM', 'no descriptor is left') : fd;
}

/** The open device, when bind has granted access. EINVAL before. */
export function granted(kernel: Kernel, file: Ref<'VfioFile'>): Ref<'VfioDevice'> {
  if (VfioFile.accessGranted.load(kernel.memory, file) === 0) fail('EINVAL', 'the device is not bound to an iommufd');
  return VfioFile.device.peek(kernel.memory, file);
}

/** VFIO_DEVICE_BIND_IOMMUFD. EINVAL, EBADF, EBADFD, EPERM, EBUSY. */
export function vfioBind(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioBind): void {
  const memory = kernel.memory;
  if (arg.argsz < 16) fail('EINVAL', `argsz is ${arg.argsz}, 16 is the least`);
  if (arg.flags !== 0 || arg.iommufd < 0) fail('EINVAL', 'unknown flags or a negative iommufd');
  const device = VfioFile.device.peek(memory, file);
  const set = VfioDevice.devSet.peek(memory, device);
  let errno = 0;
  DevSet.lock.acquire(memory, set);
  begin(kernel, VfioCall.BIND, device, 0);
  try {
    if (VfioFile.accessGranted.load(memory, file) !== 0) fail('EINVAL', 'the descriptor is bound');
    arg.outDevid = bindUnderLock(kernel, file, device, arg.iommufd);
    VfioFile.accessGranted.store(memory, file, 1);
  } catch (error) {
    errno = errnoOf(error);
    throw error;
  } finally {
    end(kernel, VfioCall.BIND, device, 0, errno);
    DevSet.lock.release(memory, set);
  }
}

function bindUnderLock(kernel: Kernel, file: Ref<'VfioFile'>, device: Ref<'VfioDevice'>, fd: number): number {
  const memory = kernel.memory;
  const iommufd = getIommufd(kernel, fd);
  try {
    if (VfioDevice.openCount.read(memory, device) !== 0) fail('EINVAL', 'the device is open through another descriptor');
    const bound = bindDevice(kernel, iommufd, VfioDevice.device.peek(memory, device));
    VfioDevice.iommufdDevice.write(memory, device, bound);
    VfioDevice.openCount.write(memory, device, 1);
    VfioFile.iommufd.poke(memory, file, iommufd);
    return IommufdObject.id.peek(memory, IommufdDevice.header.peek(memory, bound));
  } catch (error) {
    putIommufd(kernel, iommufd);
    throw error;
  }
}

/** The context behind a descriptor, with a reference. EBADF, EBADFD. */
function getIommufd(kernel: Kernel, fd: number): Ref<'Iommufd'> {
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(kernel.memory, file) !== FileKind.IOMMUFD) fail('EBADFD', `descriptor ${fd} is no iommufd`);
    const iommufd = File.body.peek(kernel.memory, file) as Ref<'Iommufd'>;
    Iommufd.references.add(kernel.memory, iommufd, 1);
    return iommufd;
  } finally {
    putFile(kernel, file);
  }
}

/** VFIO_DEVICE_ATTACH_IOMMUFD_PT: the first attaches, the next replace. `ptId` becomes the HWPT in force. */
export function vfioAttach(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioAttach): void {
  const memory = kernel.memory;
  const device = granted(kernel, file);
  if (arg.argsz < 12) fail('EINVAL', `argsz is ${arg.argsz}, 12 is the least`);
  if (arg.flags !== 0) fail('EINVAL', 'unknown flags');
  const set = VfioDevice.devSet.peek(memory, device);
  DevSet.lock.acquire(memory, set);
  const bound = VfioDevice.iommufdDevice.read(memory, device);
  const change = VfioDevice.attached.read(memory, device) !== 0 ? Change.REPLACE : Change.ATTACH;
  const call = change === Change.REPLACE ? VfioCall.REPLACE : VfioCall.ATTACH;
  let errno = 0;
  begin(kernel, call, device, arg.ptId);
  try {
    arg.ptId = changePt(kernel, bound, arg.ptId, change);
    if (change === Change.ATTACH) {
      // The attachment holds the DEVICE object itself: destroying it while attached would be the driver's bug (A9).
      addUser(kernel, IommufdDevice.header.peek(memory, bound));
      VfioDevice.attached.write(memory, device, 1);
    }
  } catch (error) {
    errno = errnoOf(error);
    throw error;
  } finally {
    end(kernel, call, device, arg.ptId, errno);
    DevSet.lock.release(memory, set);
  }
}

/** VFIO_DEVICE_DETACH_IOMMUFD_PT: nothing, silently, when the device is not attached. */
export function vfioDetach(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioDetach): void {
  const memory = kernel.memory;
  const device = granted(kernel, file);
  if (arg.argsz < 8) fail('EINVAL', `argsz is ${arg.argsz}, 8 is the least`);
  if (arg.flags !== 0) fail('EINVAL', 'unknown flags');
  const set = VfioDevice.devSet.peek(memory, device);
  DevSet.lock.acquire(memory, set);
  begin(kernel, VfioCall.DETACH, device, 0);
  detachUnderLock(kernel, device);
  end(kernel, VfioCall.DETACH, device, 0, 0);
  DevSet.lock.release(memory, set);
}

function detachUnderLock(kernel: Kernel, device: Ref<'VfioDevice'>): void {
  const memory = kernel.memory;
  if (VfioDevice.attached.read(memory, device) === 0) return;
  const bound = VfioDevice.iommufdDevice.read(memory, device);
  const hwpt = kernel.operations.attach.detach(kernel, bound);
  putHwpt(kernel, hwpt);
  dropUser(kernel, IommufdDevice.header.peek(memory, bound));
  VfioDevice.attached.write(memory, device, 0);
}

/** The last close of a device descriptor: detach and unbind (`vfio_device_fops_release`). */
export function releaseVfioFile(kernel: Kernel, file: Ref<'VfioFile'>): void {
  const memory = kernel.memory;
  if (VfioFile.accessGranted.load(memory, file) !== 0) {
    const device = VfioFile.device.peek(memory, file);
    const set = VfioDevice.devSet.peek(memory, device);
    DevSet.lock.acquire(memory, set);
    begin(kernel, VfioCall.CLOSE, device, 0);
    detachUnderLock(kernel, device);
    unbindDevice(kernel, VfioDevice.iommufdDevice.read(memory, device));
    VfioDevice.iommufdDevice.write(memory, device, NULL);
    VfioDevice.openCount.write(memory, device, 0);
    end(kernel, VfioCall.CLOSE, device, 0, 0);
    DevSet.lock.release(memory, set);
    putIommufd(kernel, VfioFile.iommufd.peek(memory, file));
  }
  VfioFile.free(memory, file);
}

/** VFIO_DEVICE_GET_REGION_INFO of the edu device: BAR 0 and the configuration space; other regions are empty. */
export function vfioRegionInfo(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioRegionInfo): void {
  granted(kernel, file);
  if (arg.argsz < 32) fail('EINVAL', `argsz is ${arg.argsz}, 32 is the least`);
  if (arg.index > 8) fail('EINVAL', `there is no region ${arg.index}`);
  arg.argsz = 32;
  arg.flags = arg.index === 0 ? 7 : arg.index === 7 ? 3 : 0;
  arg.size = arg.index === 0 ? 0x100000n : arg.index === 7 ? 0x100n : 0n;
  arg.offset = BigInt(arg.index) << 40n;
}

/** Both events of a call are written under `DevSet.lock`: the calls on one device follow each other in the history too. */
function begin(kernel: Kernel, what: VfioCall, device: Ref<'VfioDevice'>, pt: number): void {
  VfioCalled.emit(kernel.memory, what, VfioDevice.number.peek(kernel.memory, device), groupOf(kernel, device), pt, kernel.processNumber);
}

/** A call that an assertion ended has not returned. */
function end(kernel: Kernel, what: VfioCall, device: Ref<'VfioDevice'>, hwpt: number, errno: number): void {
  if (errno < 0) return;
  const memory = kernel.memory;
  VfioReturned.emit(memory, what, VfioDevice.number.peek(memory, device), groupOf(kernel, device), hwpt, errno, kernel.processNumber);
}

function groupOf(kernel: Kernel, device: Ref<'VfioDevice'>): number {
  return IommuGroup.number.peek(kernel.memory, PciDevice.group.peek(kernel.memory, VfioDevice.device.peek(kernel.memory, device)));
}

const errnoOf = (error: unknown): number => (error instanceof Errno ? errnoNumber(error.name) : -1);

