/**
 * VFIO's legacy group files, `/dev/vfio/<group>` (drivers/vfio/group.c): the older way to a device, which excludes the character
 * devices of the same group while it is open, and is excluded by them.
 *
 *   closed -> open                by openVfioGroup       open -> with an iommufd    by groupSetContainer
 *   open -> closed                by the last close of the file and of the devices opened through it
 *   closed -> character devices   by blockGroup          character devices -> closed by the last unblockGroup
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { checkPresent, type Sized } from './argument.ts';
import { ensureCompatIoas } from './compat-ioas.ts';
import { fail } from './errno.ts';
import { getFile, putFile, tryInstallFile } from './file.ts';
import { File, FileKind } from './open-file.ts';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import { KernelRoot, type Kernel } from './kernel.ts';
import { putIommufd } from './objects.ts';
import { openThroughGroup, VfioDevice } from './vfio.ts';

export const VfioGroup = object('VfioGroup', {
  group: ref('IommuGroup'),
  lock: mutex,
  /** The file, and each device that was opened through it. */
  users: u32.under('lock'),
  /** Devices that are bound through their character device. */
  bound: u32.under('lock'),
  /** What SET_CONTAINER gave it. */
  iommufd: ref('Iommufd').under('lock'),
  next: ref('VfioGroup'),
});

export interface GroupSetContainer extends Pick<Sized, 'argument'> { fd: number }
export interface GroupGetDeviceFd extends Pick<Sized, 'argument'> { name: string; outFd: number }

/** Opens `/dev/vfio/<number>`. ENOENT; EBUSY while it is open, or a device of the group is bound through its character device; ENOMEM. */
export function openVfioGroup(kernel: Kernel, number: number): number {
  const memory = kernel.memory;
  const group = findGroup(kernel, number);
  VfioGroup.lock.acquire(memory, group);
  try {
    if (VfioGroup.bound.read(memory, group) !== 0) fail('EBUSY', 'a device of the group is bound through its character device');
    if (VfioGroup.users.read(memory, group) !== 0) fail('EBUSY', 'the group file is open');
    const fd = tryInstallFile(kernel, FileKind.VFIO_GROUP, group);
    if (fd < 0) fail('ENOMEM', 'no descriptor is left');
    VfioGroup.users.write(memory, group, 1);
    return fd;
  } finally {
    VfioGroup.lock.release(memory, group);
  }
}

function findGroup(kernel: Kernel, number: number): Ref<'VfioGroup'> {
  const memory = kernel.memory;
  let at: Ref<'VfioGroup'> = KernelRoot.vfioGroups.peek(memory, kernel.root);
  while (at !== NULL && IommuGroup.number.peek(memory, VfioGroup.group.peek(memory, at)) !== number) at = VfioGroup.next.peek(memory, at);
  return at === NULL ? fail('ENOENT', `there is no /dev/vfio/${number}`) : at;
}

/** The file, or a device that was opened through it, is closed for good. */
export function putVfioGroup(kernel: Kernel, group: Ref<'VfioGroup'>): void {
  const memory = kernel.memory;
  VfioGroup.lock.acquire(memory, group);
  const users = VfioGroup.users.read(memory, group) - 1;
  VfioGroup.users.write(memory, group, users);
  const iommufd = users === 0 ? VfioGroup.iommufd.read(memory, group) : NULL;
  if (users === 0) VfioGroup.iommufd.write(memory, group, NULL);
  VfioGroup.lock.release(memory, group);
  if (iommufd !== NULL) putIommufd(kernel, iommufd);
}

/** A device is about to be bound through its character device (`vfio_device_block_group`). EBUSY while the group file is open. */
export function blockGroup(kernel: Kernel, device: Ref<'VfioDevice'>): void {
  const memory = kernel.memory;
  const group = VfioDevice.group.peek(memory, device);
  VfioGroup.lock.acquire(memory, group);
  const isOpen = VfioGroup.users.read(memory, group) !== 0;
  if (!isOpen) VfioGroup.bound.write(memory, group, VfioGroup.bound.read(memory, group) + 1);
  VfioGroup.lock.release(memory, group);
  if (isOpen) fail('EBUSY', 'the legacy file of the group is open');
}

export function unblockGroup(kernel: Kernel, device: Ref<'VfioDevice'>): void {
  const memory = kernel.memory;
  const group = VfioDevice.group.peek(memory, device);
  VfioGroup.lock.acquire(memory, group);
  VfioGroup.bound.write(memory, group, VfioGroup.bound.read(memory, group) - 1);
  VfioGroup.lock.release(memory, group);
}

/**
 * VFIO_GROUP_SET_CONTAINER with an iommufd for a container. In this order: EFAULT, EBADF, EINVAL when the group has one, EBADFD for a file of
 * another kind, ENOMEM.
 */
export function groupSetContainer(kernel: Kernel, group: Ref<'VfioGroup'>, arg: GroupSetContainer): void {
  checkPresent(arg);
  const file = getFile(kernel, arg.fd);
  try {
    keepContainer(kernel, group, file);
  } catch (error) {
    putFile(kernel, file);
    throw error;
  }
}

/** The caller's reference of the file becomes the group's. */
function keepContainer(kernel: Kernel, group: Ref<'VfioGroup'>, file: Ref<'File'>): void {
  const memory = kernel.memory;
  VfioGroup.lock.acquire(memory, group);
  try {
    if (VfioGroup.iommufd.read(memory, group) !== NULL) fail('EINVAL', 'the group has a container');
    if (File.kind.peek(memory, file) !== FileKind.IOMMUFD) fail('EBADFD', 'the file is no iommufd');
    const iommufd = File.body.peek(memory, file) as Ref<'Iommufd'>;
    ensureCompatIoas(kernel, iommufd);
    VfioGroup.iommufd.write(memory, group, iommufd);
  } finally {
    VfioGroup.lock.release(memory, group);
  }
}

/** VFIO_GROUP_GET_DEVICE_FD: binds and attaches the device of that name. EFAULT, ENODEV, EINVAL without a container, and as bind and attach. */
export function groupGetDeviceFd(kernel: Kernel, group: Ref<'VfioGroup'>, arg: GroupGetDeviceFd): void {
  const memory = kernel.memory;
  checkPresent(arg);
  const device = findDevice(kernel, group, arg.name);
  VfioGroup.lock.acquire(memory, group);
  try {
    const iommufd = VfioGroup.iommufd.read(memory, group);
    if (iommufd === NULL) fail('EINVAL', 'the group has no container');
    arg.outFd = openThroughGroup(kernel, device, iommufd);
    VfioGroup.users.write(memory, group, VfioGroup.users.read(memory, group) + 1);
  } finally {
    VfioGroup.lock.release(memory, group);
  }
}

function findDevice(kernel: Kernel, group: Ref<'VfioGroup'>, name: string): Ref<'VfioDevice'> {
  const memory = kernel.memory;
  let at = kernel.firstVfioDevice;
  while (at !== NULL && (VfioDevice.group.peek(memory, at) !== group || nameOf(kernel, at) !== name)) at = VfioDevice.next.peek(memory, at);
  return at === NULL ? fail('ENODEV', `the group has no device ${name}`) : at;
}

/** `0000:01:02.0`. */
function nameOf(kernel: Kernel, device: Ref<'VfioDevice'>): string {
  const address = PciDevice.address.peek(kernel.memory, VfioDevice.device.peek(kernel.memory, device));
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  return `0000:${hex(address >>> 8)}:${hex((address >>> 3) & 31)}.${address & 7}`;
}
