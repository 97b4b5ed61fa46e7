/**
 * Devices inside iommufd: bind and unbind (drivers/iommu/iommufd/device.c, 7.2). What they are attached to: `iommufd-attach.ts`.
 */
import type { Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { releaseOwner } from './dma-owner.ts';
import { allocated, fail } from './errno.ts';
import { DeviceGoes } from './events.ts';
import { PciDevice } from './iommu-group.ts';
import { getGroup, IommufdGroup, putGroup } from './iommufd-group.ts';
import { KernelRoot, type Kernel } from './kernel.ts';
import {
  addUser, dropUserAndDestroy, getObject, holdIommufd, IommufdObject, Kind, publishObject, putIommufd, reserveObject, type ObjectRef,
} from './objects.ts';

/** A bound device (`struct iommufd_device`). */
export const IommufdDevice = object('IommufdDevice', {
  header: ref('IommufdObject'),
  iommufd: ref('Iommufd'),
  device: ref('PciDevice'),
  group: ref('IommufdGroup'),
  /** It is on the group's list of attached members. */
  attached: u32.under('group.lock'),
  nextAttached: ref('IommufdDevice').under('group.lock'),
  /** The device's own record of its HWPT: what iommufd had before `iommufd_group`; 7.2 has none and leaves it null. */
  hwpt: ref('Hwpt').under('group.lock'),
  /** The IOAS that a sibling's replace took it from, until it asks itself: what seed 002 proposed to track; 7.2 leaves it null. */
  pendingIoas: ref('Ioas').under('group.lock'),
  /** Its number in a VM, if it has one. */
  vdevice: ref('Vdevice').under('group.lock'),
  /** It is being unbound: no vdevice is made any more. */
  destroying: u32.under('group.lock'),
});

/**
 * Claims the device's group for the context and makes the DEVICE object (`iommufd_device_bind`). A device of the selftest is
 * an object of the context itself and does not hold it. EPERM, EBUSY, EINVAL, ENOMEM.
 */
export function bindDevice(kernel: Kernel, iommufd: Ref<'Iommufd'>, pci: Ref<'PciDevice'>, holdsContext: boolean = true): Ref<'IommufdDevice'> {
  const group = PciDevice.group.peek(kernel.memory, pci);
  const shared = getGroup(kernel, iommufd, group);
  try {
    if (KernelRoot.unsafeInterrupts.peek(kernel.memory, kernel.root) !== 0) fail('EPERM', 'interrupts are not isolated');
    kernel.operations.group.claimOwner(kernel, group, iommufd);
  } catch (error) {
    putGroup(kernel, shared);
    throw error;
  }
  try {
    return createDevice(kernel, iommufd, pci, shared, holdsContext);
  } catch (error) {
    releaseOwner(kernel, group);
    putGroup(kernel, shared);
    throw error;
  }
}

/** The DEVICE object, published. ENOMEM. */
function createDevice(
  kernel: Kernel, iommufd: Ref<'Iommufd'>, pci: Ref<'PciDevice'>, shared: Ref<'IommufdGroup'>, holdsContext: boolean,
): Ref<'IommufdDevice'> {
  const memory = kernel.memory;
  const device = allocated(IommufdDevice.tryCreate(memory));
  const header = reserveOrFree(kernel, iommufd, device);
  IommufdDevice.header.poke(memory, device, header);
  IommufdDevice.iommufd.poke(memory, device, iommufd);
  IommufdDevice.device.poke(memory, device, pci);
  IommufdDevice.group.poke(memory, device, shared);
  IommufdObject.body.poke(memory, header, device);
  if (holdsContext) holdIommufd(kernel, iommufd);
  // The driver's own user: DESTROY of a device id is EBUSY until it unbinds (A9).
  addUser(kernel, header);
  publishObject(kernel, header);
  return device;
}

function reserveOrFree(kernel: Kernel, iommufd: Ref<'Iommufd'>, device: Ref<'IommufdDevice'>): ObjectRef {
  try {
    return reserveObject(kernel, iommufd, Kind.DEVICE);
  } catch (error) {
    IommufdDevice.free(kernel.memory, device);
    throw error;
  }
}

/** The DEVICE with this id, held for the rest of the call. ENOENT. */
export function getDevice(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'IommufdDevice'> {
  return IommufdObject.body.peek(kernel.memory, kernel.hold(getObject(kernel, iommufd, id, Kind.DEVICE))) as Ref<'IommufdDevice'>;
}

/** Unbinds (`iommufd_device_unbind`); the device is detached. Cannot fail: who is inside a call with its id is waited for. */
export function unbindDevice(kernel: Kernel, device: Ref<'IommufdDevice'>, holdsContext: boolean = true): void {
  const memory = kernel.memory;
  const header = IommufdDevice.header.peek(memory, device);
  const iommufd = IommufdDevice.iommufd.peek(memory, device);
  kernel.operations.vdevice.remove(kernel, device);
  dropUserAndDestroy(kernel, header);
  if (holdsContext) putIommufd(kernel, iommufd);
}

/** The destructor (`iommufd_device_destroy`). */
export function destroyDevice(kernel: Kernel, device: Ref<'IommufdDevice'>): void {
  const memory = kernel.memory;
  const shared = IommufdDevice.group.peek(memory, device);
  DeviceGoes.emit(memory, kernel.processNumber, deviceId(kernel, device));
  kernel.operations.tsm.release(kernel, IommufdDevice.device.peek(memory, device));
  releaseOwner(kernel, IommufdGroup.group.peek(memory, shared));
  putGroup(kernel, shared);
  IommufdDevice.free(memory, device);
}

export const deviceId = (kernel: Kernel, device: Ref<'IommufdDevice'>): number =>
  IommufdObject.id.peek(kernel.memory, IommufdDevice.header.peek(kernel.memory, device));
