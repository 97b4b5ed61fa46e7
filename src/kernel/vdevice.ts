/**
 * The vdevice (drivers/iommu/iommufd/viommu.c): a device as its VM's vIOMMU numbers it. It holds both counts of its device; when the
 * device is unbound the kernel destroys it first, and its id stays taken as a tombstone.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { refusesAnswer } from './argument.ts';
import { allocated, fail } from './errno.ts';
import { PciDevice } from './iommu-group.ts';
import { IommufdDevice } from './iommufd-device.ts';
import { IommufdGroup } from './iommufd-group.ts';
import type { Kernel } from './kernel.ts';
import {
  abortObject, addUser, buryObject, dropUser, getObject, IommufdObject, Kind, lockObject, publishObject, putObject, reserveObject, type ObjectRef,
} from './objects.ts';
import { covers, getViommu, Viommu } from './viommu.ts';

export const Vdevice = object('Vdevice', {
  header: ref('IommufdObject'),
  viommu: ref('Viommu'),
  device: ref('IommufdDevice'),
  virtId: u64,
  /** The driver knows of it. */
  initialised: u32,
  next: ref('Vdevice').under('viommu.vdevicesLock'),
});

export interface VdeviceAlloc { viommuId: number; devId: number; virtId: bigint; outVdeviceId: number }

/** IOMMU_VDEVICE_ALLOC: ENOENT, EINVAL for a device behind another IOMMU, EEXIST for a device or a number that has one, ENOMEM. */
export function vdeviceAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: VdeviceAlloc): void {
  const memory = kernel.memory;
  const viommu = getViommu(kernel, iommufd, arg.viommuId);
  const deviceHeader = getObject(kernel, iommufd, arg.devId, Kind.DEVICE);
  const device = IommufdObject.body.peek(memory, deviceHeader) as Ref<'IommufdDevice'>;
  const group = IommufdDevice.group.peek(memory, device);
  try {
    if (!covers(kernel, viommu, functionOf(kernel, device))) fail('EINVAL', 'the device is behind another IOMMU');
    IommufdGroup.lock.acquire(memory, group);
    try {
      arg.outVdeviceId = joinViommu(kernel, iommufd, viommu, device, arg);
    } finally {
      IommufdGroup.lock.release(memory, group);
    }
  } catch (error) {
    putObject(kernel, deviceHeader);
    throw error;
  }
}

/** Under the group's lock. Returns the id. */
function joinViommu(kernel: Kernel, iommufd: Ref<'Iommufd'>, viommu: Ref<'Viommu'>, device: Ref<'IommufdDevice'>, arg: VdeviceAlloc): number {
  const memory = kernel.memory;
  if (IommufdDevice.destroying.read(memory, device) !== 0) fail('ENOENT', 'the device is being unbound');
  if (IommufdDevice.vdevice.read(memory, device) !== NULL) fail('EEXIST', 'the device has a vdevice');
  const header = reserveObject(kernel, iommufd, Kind.VDEVICE);
  const vdevice = Vdevice.tryCreate(memory);
  if (vdevice === NULL) abortObject(kernel, header);
  Vdevice.header.poke(memory, allocated(vdevice), header);
  Vdevice.viommu.poke(memory, vdevice, viommu);
  Vdevice.device.poke(memory, vdevice, device);
  Vdevice.virtId.pokeBig(memory, vdevice, arg.virtId);
  IommufdObject.body.poke(memory, header, vdevice);
  try {
    enter(kernel, viommu, vdevice, arg);
  } catch (error) {
    leave(kernel, vdevice);
    Vdevice.free(memory, vdevice);
    abortObject(kernel, header);
    throw error;
  }
  addUser(kernel, Viommu.header.peek(memory, viommu));
  kernel.operations.vdevice.holdDevice(kernel, IommufdDevice.header.peek(memory, device));
  IommufdDevice.vdevice.write(memory, device, vdevice);
  return publishObject(kernel, header);
}

/** EEXIST for a number in use, what the driver says, EFAULT. */
function enter(kernel: Kernel, viommu: Ref<'Viommu'>, vdevice: Ref<'Vdevice'>, arg: VdeviceAlloc): void {
  const memory = kernel.memory;
  Viommu.vdevicesLock.acquire(memory, viommu);
  const taken = findByNumber(kernel, viommu, arg.virtId) !== NULL;
  if (!taken) {
    Vdevice.next.write(memory, vdevice, Viommu.vdevices.read(memory, viommu));
    Viommu.vdevices.write(memory, viommu, vdevice);
  }
  Viommu.vdevicesLock.release(memory, viommu);
  if (taken) fail('EEXIST', `number ${arg.virtId} is in use`);
  const pciFunction = functionOf(kernel, Vdevice.device.peek(memory, vdevice));
  const problem = kernel.driver.vdeviceInit?.(Viommu.driverData.peek(memory, viommu), pciFunction, arg.virtId) ?? 0;
  if (problem !== 0) fail(problem, 'the driver refuses the vdevice');
  Vdevice.initialised.poke(memory, vdevice, 1);
  if (refusesAnswer(kernel, arg)) fail('EFAULT', 'the argument cannot be written');
}

/** Takes it out of the vIOMMU, as far as it is in. */
function leave(kernel: Kernel, vdevice: Ref<'Vdevice'>): void {
  const memory = kernel.memory;
  const viommu = Vdevice.viommu.peek(memory, vdevice);
  const virtId = Vdevice.virtId.peekBig(memory, vdevice);
  if (Vdevice.initialised.peek(memory, vdevice) !== 0) {
    kernel.driver.vdeviceDestroy?.(Viommu.driverData.peek(memory, viommu), functionOf(kernel, Vdevice.device.peek(memory, vdevice)), virtId);
  }
  Viommu.vdevicesLock.acquire(memory, viommu);
  unlink(kernel, viommu, vdevice);
  Viommu.vdevicesLock.release(memory, viommu);
}

function unlink(kernel: Kernel, viommu: Ref<'Viommu'>, vdevice: Ref<'Vdevice'>): void {
  const memory = kernel.memory;
  let before: Ref<'Vdevice'> = NULL;
  let at: Ref<'Vdevice'> = Viommu.vdevices.read(memory, viommu);
  while (at !== NULL && at !== vdevice) {
    before = at;
    at = Vdevice.next.read(memory, at);
  }
  if (at === NULL) return;
  if (before === NULL) Viommu.vdevices.write(memory, viommu, Vdevice.next.read(memory, vdevice));
  else Vdevice.next.write(memory, before, Vdevice.next.read(memory, vdevice));
}

/** Under `vdevicesLock`. */
function findByNumber(kernel: Kernel, viommu: Ref<'Viommu'>, virtId: bigint): Ref<'Vdevice'> {
  const memory = kernel.memory;
  let at: Ref<'Vdevice'> = Viommu.vdevices.read(memory, viommu);
  while (at !== NULL && Vdevice.virtId.peekBig(memory, at) !== virtId) at = Vdevice.next.read(memory, at);
  return at;
}

/** The destructor (`iommufd_vdevice_destroy`). */
export function destroyVdevice(kernel: Kernel, vdevice: Ref<'Vdevice'>): void {
  const memory = kernel.memory;
  const device = Vdevice.device.peek(memory, vdevice);
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  leave(kernel, vdevice);
  IommufdDevice.vdevice.write(memory, device, NULL);
  IommufdGroup.lock.release(memory, group);
  dropUser(kernel, Viommu.header.peek(memory, Vdevice.viommu.peek(memory, vdevice)));
  Vdevice.free(memory, vdevice);
  kernel.operations.vdevice.letDeviceGo(kernel, IommufdDevice.header.peek(memory, device));
}

/** A vdevice holds both counts of its device: those that its call has got stay, for the dispatcher does not put them. */
export function holdDevice(_kernel: Kernel, _device: ObjectRef): void {}

export function letDeviceGo(kernel: Kernel, device: ObjectRef): void {
  putObject(kernel, device);
}

/**
 * Before a device goes (`iommufd_device_remove_vdev`): no vdevice is made any more, and the one that there is goes, its id buried. One
 * that somebody is destroying already is waited for by the device's own destruction, whose counts it holds.
 */
export function removeVdevice(kernel: Kernel, device: Ref<'IommufdDevice'>): void {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  IommufdDevice.destroying.write(memory, device, 1);
  const vdevice = IommufdDevice.vdevice.read(memory, device);
  const header = vdevice === NULL ? NULL : Vdevice.header.peek(memory, vdevice);
  const locked = header !== NULL && lockObject(kernel, header);
  if (locked) addUser(kernel, header);
  if (locked) putObject(kernel, header);
  IommufdGroup.lock.release(memory, group);
  if (locked) buryObject(kernel, header);
}

const functionOf = (kernel: Kernel, device: Ref<'IommufdDevice'>): Ref<'PciFunction'> =>
  PciDevice.function.peek(kernel.memory, IommufdDevice.device.peek(kernel.memory, device));
