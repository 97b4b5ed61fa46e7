/**
 * VFIO's character devices: open, bind, attach, detach, close (drivers/vfio/device_cdev.c, vfio_main.c, iommufd.c).
 *
 * `DevSet.lock` spans bind, attach, detach and close of all devices whose reset is shared; functions of one device on a
 * root bus have a set each. Until bind has finished nothing but bind is possible.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { checkArgsz, checkSize, refusesAnswer, respond, type Argsized } from './argument.ts';
import { thrownErrno } from './call-events.ts';
import { allocated, fail } from './errno.ts';
import { VfioCall, VfioCalled, VfioReturned } from './events.ts';
import { getFile, putFile, tryInstallFile } from './file.ts';
import { File, FileKind } from './open-file.ts';
import { compatIoasId } from './compat-ioas.ts';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import { Change, changePt, detachSlot, RID_SLOT } from './change-pt.ts';
import { bindDevice, IommufdDevice, unbindDevice } from './iommufd-device.ts';
import type { Kernel } from './kernel.ts';
import { holdIommufd, IommufdObject, putIommufd } from './objects.ts';
import { userAddress } from './process.ts';
import { abandonDmabufs } from './vfio-dmabuf.ts';
import { blockGroup, putVfioGroup, unblockGroup } from './vfio-group.ts';
import { changePasidUnderLock, detachPasidUnderLock, firstPasid, VfioPasid } from './vfio-pasid.ts';

export const DevSet = object('DevSet', { lock: mutex });

export const VfioDevice = object('VfioDevice', {
  /** `/dev/vfio/devices/vfio<number>`. */
  number: u32,
  device: ref('PciDevice'),
  group: ref('VfioGroup'),
  devSet: ref('DevSet'),
  openCount: u32.under('devSet.lock'),
  iommufdDevice: ref('IommufdDevice').under('devSet.lock'),
  /** The RID is attached, as far as VFIO knows. */
  attached: u32.under('devSet.lock'),
  pasids: ref('VfioPasid').under('devSet.lock'),
  /** The VM that it is for, see `kvm-vfio.ts`. */
  kvmLock: mutex,
  kvm: ref('Kvm'),
  memoryLock: mutex,
  /** Its command register's memory bit is clear. */
  memoryOff: u32.under('memoryLock'),
  /** The first of the frames that stand for its registers; 0 before anybody asked for them. */
  registers: u32.under('memoryLock'),
  dmabufs: ref('Dmabuf').under('memoryLock'),
  next: ref('VfioDevice'),
});

/** One open of a device (`struct vfio_device_file`). */
export const VfioFile = object('VfioFile', {
  device: ref('VfioDevice'),
  /** Set last by bind; read by every other ioctl. */
  accessGranted: u32,
  iommufd: ref('Iommufd'),
  /** The group file through which it was opened; null for the character device. */
  group: ref('VfioGroup'),
});

/** Bits of `flags`. */
export const VfioFlag = { BIND_TOKEN: 1, PASID: 1 } as const;

/** The least struct of BIND, and the pointer that may follow it. */
const bindBytes = 16;
const tokenBytes = 8;
const uuidBytes = 16n;

export interface VfioBind extends Argsized {
  flags: number;
  iommufd: number;
  outDevid: number;
  /** Where the 16 bytes of a virtual function's UUID lie in the caller's memory. */
  token?: bigint;
  /** Some byte behind the token is not 0. */
  nonzeroTail?: boolean;
}
export interface VfioAttach extends Argsized { flags: number; ptId: number; pasid?: number }
export interface VfioDetach extends Argsized { flags: number; pasid?: number }

/** Opens `/dev/vfio/devices/vfio<n>`; possible any number of times, binding is not. ENOENT, ENOMEM. */
export function openVfio(kernel: Kernel, number: number): number {
  const memory = kernel.memory;
  let device = kernel.firstVfioDevice;
  while (device !== NULL && VfioDevice.number.peek(memory, device) !== number) device = VfioDevice.next.peek(memory, device);
  if (device === NULL) fail('ENOENT', `there is no vfio${number}`);
  const file = createVfioFile(kernel, device);
  const fd = tryInstallFile(kernel, FileKind.VFIO, file);
  if (fd < 0) VfioFile.free(memory, file);
  return fd < 0 ? fail('ENOMEM', 'no descriptor is left') : fd;
}

/** What a descriptor stands for; it stays open. EBADF, EBADFD. */
export function vfioFileOf(kernel: Kernel, fd: number): Ref<'VfioFile'> {
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(kernel.memory, file) !== FileKind.VFIO) fail('EBADFD', `descriptor ${fd} is no VFIO device`);
    return File.body.peek(kernel.memory, file) as Ref<'VfioFile'>;
  } finally {
    putFile(kernel, file);
  }
}

function createVfioFile(kernel: Kernel, device: Ref<'VfioDevice'>): Ref<'VfioFile'> {
  const file = allocated(VfioFile.tryCreate(kernel.memory));
  VfioFile.device.poke(kernel.memory, file, device);
  return file;
}

/** The open device, when bind has granted access. EINVAL before. */
export function granted(kernel: Kernel, file: Ref<'VfioFile'>): Ref<'VfioDevice'> {
  if (VfioFile.accessGranted.load(kernel.memory, file) === 0) fail('EINVAL', 'the device is not bound to an iommufd');
  return VfioFile.device.peek(kernel.memory, file);
}

/** VFIO_DEVICE_BIND_IOMMUFD. EFAULT, EINVAL, E2BIG, EBUSY, EBADF, EBADFD, EPERM. */
export function vfioBind(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioBind): void {
  const memory = kernel.memory;
  checkBind(arg);
  if (VfioFile.group.peek(memory, file) !== NULL) fail('EINVAL', 'the device was opened through its group');
  const device = VfioFile.device.peek(memory, file);
  const set = VfioDevice.devSet.peek(memory, device);
  blockGroup(kernel, device);
  let errno = 0;
  DevSet.lock.acquire(memory, set);
  begin(kernel, VfioCall.BIND, device, 0);
  try {
    if (VfioFile.accessGranted.load(memory, file) !== 0) fail('EINVAL', 'the descriptor is bound');
    checkToken(kernel, arg);
    arg.outDevid = bindUnderLock(kernel, file, device, arg);
    VfioFile.accessGranted.store(memory, file, 1);
  } catch (error) {
    errno = thrownErrno(error);
    throw error;
  } finally {
    end(kernel, VfioCall.BIND, device, 0, errno);
    DevSet.lock.release(memory, set);
    if (errno !== 0) unblockGroup(kernel, device);
  }
}

function checkBind(arg: VfioBind): void {
  checkSize({ ...arg, size: arg.argsz }, bindBytes, bindBytes + tokenBytes);
  if ((arg.flags & ~VfioFlag.BIND_TOKEN) !== 0 || arg.iommufd < 0) fail('EINVAL', 'unknown flags or a negative iommufd');
}

/** A token is read before anybody asks who has one: virtual functions, and none is here (`vfio_df_check_token`). EFAULT, EINVAL. */
function checkToken(kernel: Kernel, { argsz, flags, token = 0n }: VfioBind): void {
  if ((flags & VfioFlag.BIND_TOKEN) === 0) return;
  // What lies behind the user's struct reads as 0.
  const at = BigInt.asUintN(Math.min(argsz - bindBytes, tokenBytes) * 8, token);
  userAddress(kernel, kernel.process, at);
  userAddress(kernel, kernel.process, at + uuidBytes - 1n);
  fail('EINVAL', 'a token is for virtual functions');
}

/** Returns the id of the DEVICE object. As bind, and EFAULT. */
function bindUnderLock(kernel: Kernel, file: Ref<'VfioFile'>, device: Ref<'VfioDevice'>, arg: VfioBind): number {
  const memory = kernel.memory;
  const iommufd = getIommufd(kernel, arg.iommufd);
  try {
    if (VfioDevice.openCount.read(memory, device) !== 0) fail('EINVAL', 'the device is open through another descriptor');
    const id = openDevice(kernel, device, iommufd);
    if (refusesAnswer(kernel, arg)) {
      closeDevice(kernel, device);
      fail('EFAULT', 'out_devid cannot be written');
    }
    VfioFile.iommufd.poke(memory, file, iommufd);
    return id;
  } catch (error) {
    putIommufd(kernel, iommufd);
    throw error;
  }
}

/** One more open; the first binds (`vfio_df_open`). Returns the id of the DEVICE object. The caller holds `DevSet.lock`. */
function openDevice(kernel: Kernel, device: Ref<'VfioDevice'>, iommufd: Ref<'Iommufd'>): number {
  const memory = kernel.memory;
  const opens = VfioDevice.openCount.read(memory, device);
  if (opens === 0) VfioDevice.iommufdDevice.write(memory, device, bindDevice(kernel, iommufd, VfioDevice.device.peek(memory, device)));
  VfioDevice.openCount.write(memory, device, opens + 1);
  return IommufdObject.id.peek(memory, IommufdDevice.header.peek(memory, VfioDevice.iommufdDevice.read(memory, device)));
}

/** One open less; the last detaches everything and unbinds (`vfio_df_close`). The caller holds `DevSet.lock`. */
function closeDevice(kernel: Kernel, device: Ref<'VfioDevice'>): void {
  const memory = kernel.memory;
  const opens = VfioDevice.openCount.read(memory, device) - 1;
  VfioDevice.openCount.write(memory, device, opens);
  if (opens > 0) return;
  for (let at = firstPasid(kernel, device); at !== NULL; at = firstPasid(kernel, device)) {
    detachPasidUnderLock(kernel, device, VfioPasid.pasid.peek(memory, at));
  }
  detachRidUnderLock(kernel, device);
  abandonDmabufs(kernel, device);
  unbindDevice(kernel, VfioDevice.iommufdDevice.read(memory, device));
  VfioDevice.iommufdDevice.write(memory, device, NULL);
}

/** The context behind a descriptor, with a reference. EBADF, EBADFD. */
export function getIommufd(kernel: Kernel, fd: number): Ref<'Iommufd'> {
  const file = getFile(kernel, fd);
  if (File.kind.peek(kernel.memory, file) === FileKind.IOMMUFD) return File.body.peek(kernel.memory, file) as Ref<'Iommufd'>;
  putFile(kernel, file);
  return fail('EBADFD', `descriptor ${fd} is no iommufd`);
}

/**
 * What GET_DEVICE_FD of a legacy group opens (`vfio_df_group_open`): bound to the group's context, and attached to its
 * compatibility IOAS. The caller holds `VfioGroup.lock`. As bind and attach, and ENOMEM.
 */
export function openThroughGroup(kernel: Kernel, device: Ref<'VfioDevice'>, iommufd: Ref<'Iommufd'>): number {
  const memory = kernel.memory;
  const set = VfioDevice.devSet.peek(memory, device);
  const file = createVfioFile(kernel, device);
  DevSet.lock.acquire(memory, set);
  try {
    openDevice(kernel, device, iommufd);
    const fd = attachAndInstall(kernel, file, device, iommufd);
    VfioFile.group.poke(memory, file, VfioDevice.group.peek(memory, device));
    VfioFile.iommufd.poke(memory, file, iommufd);
    holdIommufd(kernel, iommufd);
    VfioFile.accessGranted.store(memory, file, 1);
    return fd;
  } catch (error) {
    VfioFile.free(memory, file);
    throw error;
  } finally {
    DevSet.lock.release(memory, set);
  }
}

/** Closes the device again when it fails. */
function attachAndInstall(kernel: Kernel, file: Ref<'VfioFile'>, device: Ref<'VfioDevice'>, iommufd: Ref<'Iommufd'>): number {
  try {
    if (VfioDevice.attached.read(kernel.memory, device) === 0) changeRidUnderLock(kernel, device, compatIoasId(kernel, iommufd));
    const fd = tryInstallFile(kernel, FileKind.VFIO, file);
    return fd < 0 ? fail('ENOMEM', 'no descriptor is left') : fd;
  } catch (error) {
    closeDevice(kernel, device);
    throw error;
  }
}

/** VFIO_DEVICE_ATTACH_IOMMUFD_PT: the first attaches, the next replace. `ptId` becomes the HWPT in force. */
export function vfioAttach(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioAttach): void {
  const memory = kernel.memory;
  const device = grantedCdev(kernel, file);
  const hasPasid = checkSlot(arg, 12);
  // K3 mended: what cannot take the answer is found out before there is anything to undo.
  if (!kernel.operations.faults.pasidUndoHitsRid) respond(kernel, arg);
  const set = VfioDevice.devSet.peek(memory, device);
  DevSet.lock.acquire(memory, set);
  try {
    arg.ptId = reportedAttach(kernel, device, hasPasid, arg);
  } finally {
    DevSet.lock.release(memory, set);
  }
}

/** The device of a character device's descriptor: through a group file there is neither attach nor detach. EINVAL, ENOTTY. */
function grantedCdev(kernel: Kernel, file: Ref<'VfioFile'>): Ref<'VfioDevice'> {
  const device = granted(kernel, file);
  if (VfioFile.group.peek(kernel.memory, file) !== NULL) fail('ENOTTY', 'the device was opened through its group');
  return device;
}

/** Checks size and flags, where `least` bytes are enough without a PASID; whether there is one. EFAULT, EINVAL. */
function checkSlot(arg: VfioAttach | VfioDetach, least: number): boolean {
  const hasPasid = (arg.flags & VfioFlag.PASID) !== 0;
  checkArgsz(arg, hasPasid ? least + 4 : least);
  if ((arg.flags & ~VfioFlag.PASID) !== 0) fail('EINVAL', 'unknown flags');
  return hasPasid;
}

/** An attach or replace, told as such; undone when its answer cannot be written. Returns the id of the HWPT in force. */
function reportedAttach(kernel: Kernel, device: Ref<'VfioDevice'>, hasPasid: boolean, arg: VfioAttach): number {
  const { ptId, pasid = 0 } = arg;
  const ofRid = VfioDevice.attached.read(kernel.memory, device) !== 0 ? VfioCall.REPLACE : VfioCall.ATTACH;
  const call = hasPasid ? VfioCall.PASID_ATTACH : ofRid;
  let errno = 0;
  let hwpt = ptId;
  begin(kernel, call, device, ptId, pasid);
  try {
    hwpt = hasPasid ? changePasidUnderLock(kernel, device, pasid, ptId) : changeRidUnderLock(kernel, device, ptId);
    if (kernel.operations.faults.pasidUndoHitsRid && refusesAnswer(kernel, arg)) undoAttach(kernel, device);
    return hwpt;
  } catch (error) {
    errno = thrownErrno(error);
    throw error;
  } finally {
    end(kernel, call, device, hwpt, errno);
  }
}

/** Returns the id of the HWPT in force (`vfio_iommufd_physical_attach_ioas`). */
function changeRidUnderLock(kernel: Kernel, device: Ref<'VfioDevice'>, ptId: number): number {
  const memory = kernel.memory;
  const bound = VfioDevice.iommufdDevice.read(memory, device);
  if (VfioDevice.attached.read(memory, device) !== 0) return changePt(kernel, bound, ptId, Change.REPLACE);
  const id = changePt(kernel, bound, ptId, Change.ATTACH);
  VfioDevice.attached.write(memory, device, 1);
  return id;
}

/** The `pt_id` cannot be written back (K3): 7.2 detaches the RID whatever was attached, also where the call was a replace. EFAULT. */
function undoAttach(kernel: Kernel, device: Ref<'VfioDevice'>): never {
  detachRidUnderLock(kernel, device);
  return fail('EFAULT', 'pt_id cannot be written');
}

/** VFIO_DEVICE_DETACH_IOMMUFD_PT: nothing, silently, when the device is not attached. EINVAL, ENOTTY, EFAULT. */
export function vfioDetach(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioDetach): void {
  const memory = kernel.memory;
  const device = grantedCdev(kernel, file);
  const hasPasid = checkSlot(arg, 8);
  const set = VfioDevice.devSet.peek(memory, device);
  DevSet.lock.acquire(memory, set);
  const call = hasPasid ? VfioCall.PASID_DETACH : VfioCall.DETACH;
  begin(kernel, call, device, 0, arg.pasid);
  if (hasPasid) detachPasidUnderLock(kernel, device, arg.pasid ?? 0);
  else detachRidUnderLock(kernel, device);
  end(kernel, call, device, 0, 0);
  DevSet.lock.release(memory, set);
}

function detachRidUnderLock(kernel: Kernel, device: Ref<'VfioDevice'>): void {
  const memory = kernel.memory;
  if (VfioDevice.attached.read(memory, device) === 0) return;
  detachSlot(kernel, VfioDevice.iommufdDevice.read(memory, device), RID_SLOT);
  VfioDevice.attached.write(memory, device, 0);
}

/** The last close of a device descriptor (`vfio_device_fops_release`). */
export function releaseVfioFile(kernel: Kernel, file: Ref<'VfioFile'>): void {
  const memory = kernel.memory;
  const group = VfioFile.group.peek(memory, file);
  if (VfioFile.accessGranted.load(memory, file) !== 0) {
    const device = VfioFile.device.peek(memory, file);
    const set = VfioDevice.devSet.peek(memory, device);
    DevSet.lock.acquire(memory, set);
    begin(kernel, VfioCall.CLOSE, device, 0);
    closeDevice(kernel, device);
    end(kernel, VfioCall.CLOSE, device, 0, 0);
    DevSet.lock.release(memory, set);
    putIommufd(kernel, VfioFile.iommufd.peek(memory, file));
    if (group === NULL) unblockGroup(kernel, device);
    else putVfioGroup(kernel, group);
  }
  VfioFile.free(memory, file);
}

/** Both events of a call are written under `DevSet.lock`: the calls on one device follow each other in the history too. */
function begin(kernel: Kernel, what: VfioCall, device: Ref<'VfioDevice'>, pt: number, pasid: number = 0): void {
  VfioCalled.emit(kernel.memory, what, VfioDevice.number.peek(kernel.memory, device), groupOf(kernel, device), pt, kernel.processNumber, pasid);
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

