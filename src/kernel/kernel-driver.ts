/**
 * Kernel drivers of PCI functions, as far as DMA goes (`really_probe`, `pci_dma_configure` and their undoing): one that does DMA through the
 * default domain asks the group first. What it does there is the DMA API's (`dma-iommu.ts`).
 */
import type { Ref } from '#hostmem/object';
import { assert } from './errno.ts';
import { DriverBound, DriverProbes, DriverRefused, DriverUnbound } from './events.ts';
import { IommuGroup, KernelDriver, PciDevice } from './iommu-group.ts';
import { deviceOf } from './iommu-probe.ts';
import type { Kernel } from './kernel.ts';

/** A driver binds to a function that has none. EBUSY when a user owns its group, EPROBE_DEFER. */
export function bindDriver(kernel: Kernel, pciFunction: Ref<'PciFunction'>, driver: KernelDriver = KernelDriver.DEFAULT_DOMAIN): void {
  const memory = kernel.memory;
  const device = deviceOf(kernel, pciFunction);
  assert(PciDevice.kernelDriver.load(memory, device) === KernelDriver.NONE, 'a function has one driver');
  tell(kernel, DriverProbes, device, driver);
  try {
    if (driver === KernelDriver.DEFAULT_DOMAIN) kernel.operations.group.useDefaultDomain(kernel, PciDevice.group.peek(memory, device));
  } catch (error) {
    tell(kernel, DriverRefused, device, driver);
    throw error;
  }
  PciDevice.kernelDriver.store(memory, device, driver);
  tell(kernel, DriverBound, device, driver);
}

/** The driver leaves the function; it has stopped its DMA. Told under the mutex: who claims the group does so later. */
export function unbindDriver(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const memory = kernel.memory;
  const device = deviceOf(kernel, pciFunction);
  const group = PciDevice.group.peek(memory, device);
  IommuGroup.mutex.acquire(memory, group);
  const driver = PciDevice.kernelDriver.load(memory, device) as KernelDriver;
  PciDevice.kernelDriver.store(memory, device, KernelDriver.NONE);
  if (driver === KernelDriver.DEFAULT_DOMAIN) kernel.operations.group.unuseDefaultDomain(kernel, group);
  tell(kernel, DriverUnbound, device, driver);
  IommuGroup.mutex.release(memory, group);
}

function tell(kernel: Kernel, what: typeof DriverBound, device: Ref<'PciDevice'>, driver: KernelDriver): void {
  const memory = kernel.memory;
  what.emit(memory, IommuGroup.number.peek(memory, PciDevice.group.peek(memory, device)), PciDevice.address.peek(memory, device), driver);
}
