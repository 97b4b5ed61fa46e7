/**
 * What KVM and VFIO have of each other (virt/kvm/vfio.c, vfio_main.c): KVM's pseudo device is handed descriptors of VFIO devices and tells VFIO which VM
 * they are for; a driver that is opened (vfio-ap) wants the lock of that VM. Of KVM there is no more here than its lock.
 *
 * Lock order: `DevSet.lock` (group_lock of the time) -> `Kvm.lock` (kvm->lock) -> `VfioDevice.kvmLock` (kvm_ref_lock).
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { DriverOpens, KvmTells } from './events.ts';
import type { Kernel } from './kernel.ts';
import { DevSet, granted, VfioDevice } from './vfio.ts';

export const Kvm = object('Kvm', {
  lock: mutex,
  /** Descriptors that it was handed. */
  files: u32.under('lock'),
  /** Devices that drivers have opened for it. */
  devices: u32.under('lock'),
});

/** KVM_DEV_VFIO_FILE_ADD: the device of the descriptor is for this VM. */
export function addVfioFile(kernel: Kernel, kvm: Ref<'Kvm'>, file: Ref<'VfioFile'>): void {
  handOver(kernel, kvm, file, kvm, 1);
}

/** KVM_DEV_VFIO_FILE_DEL, and the end of the pseudo device. */
export function removeVfioFile(kernel: Kernel, kvm: Ref<'Kvm'>, file: Ref<'VfioFile'>): void {
  handOver(kernel, kvm, file, NULL, -1);
}

function handOver(kernel: Kernel, kvm: Ref<'Kvm'>, file: Ref<'VfioFile'>, to: Ref<'Kvm'>, change: number): void {
  const memory = kernel.memory;
  Kvm.lock.acquire(memory, kvm);
  Kvm.files.write(memory, kvm, Kvm.files.read(memory, kvm) + change);
  const device = granted(kernel, file);
  KvmTells.emit(memory, VfioDevice.number.peek(memory, device), to === NULL ? 0 : 1);
  kernel.operations.kvm.setKvm(kernel, device, to);
  Kvm.lock.release(memory, kvm);
}

/** `vfio_device_set_kvm`: under a lock of its own, beneath which nothing is taken. */
export function setKvm(kernel: Kernel, device: Ref<'VfioDevice'>, kvm: Ref<'Kvm'>): void {
  VfioDevice.kvmLock.acquire(kernel.memory, device);
  VfioDevice.kvm.store(kernel.memory, device, kvm);
  VfioDevice.kvmLock.release(kernel.memory, device);
}

/** Opening a device (`vfio_df_device_first_open`): under its lock VFIO looks up the VM, and the driver takes that one's lock. */
export function openDriver(kernel: Kernel, file: Ref<'VfioFile'>): void {
  const memory = kernel.memory;
  const device = granted(kernel, file);
  const set = VfioDevice.devSet.peek(memory, device);
  DevSet.lock.acquire(memory, set);
  DriverOpens.emit(memory, VfioDevice.number.peek(memory, device));
  VfioDevice.kvmLock.acquire(memory, device);
  const kvm = VfioDevice.kvm.load(memory, device);
  VfioDevice.kvmLock.release(memory, device);
  if (kvm !== NULL) {
    Kvm.lock.acquire(memory, kvm);
    Kvm.devices.write(memory, kvm, Kvm.devices.read(memory, kvm) + 1);
    Kvm.lock.release(memory, kvm);
  }
  DevSet.lock.release(memory, set);
}
