/**
 * Kernel drivers of PCI functions, as far as DMA goes (`really_probe`, `pci_dma_configure` and their undoing): one that does DMA through the
 * default domain asks the group first. What it does there is the DMA API's (`dma-iommu.ts`).
 */
import type { Ref } from '#hostmem/object';
import { tellDriver } from './dma-owner.ts';
import { assert } from './errno.ts';
import { DriverBound, DriverProbes, DriverRefused, DriverUnbound } from './events.ts';
import { KernelDriver, PciDevice } from './iommu-group.ts';
import { deviceOf } from './iommu-probe.ts';
import type { Kernel } from './kernel.ts';

/** A driver binds to a function that has none. EBUSY when a user owns its group, EPROBE_DEFER. */
export function bindDriver(kernel: Kernel, pciFunction: Ref<'PciFunction'>, driver: KernelDriver = KernelDriver.DEFAULT_DOMAIN): void {
  const memory = kernel.memory;
  const device = deviceOf(kernel, pciFunction);
  assert(PciDevice.kernelDriver.load(memory, device) === KernelDriver.NONE, 'a function has one driver');
  tellDriver(kernel, DriverProbes, device, driver);
  if (driver === KernelDriver.DEFAULT_DOMAIN) useOrRefuse(kernel, device);
  else tellDriver(kernel, DriverBound, device, driver);
  PciDevice.kernelDriver.store(memory, device, driver);
}

function useOrRefuse(kernel: Kernel, device: Ref<'PciDevice'>): void {
  try {
    kernel.operations.group.useDefaultDomain(kernel, device);
  } catch (error) {
    tellDriver(kernel, DriverRefused, device, KernelDriver.DEFAULT_DOMAIN);
    throw error;
  }
}

/** The driver leaves the function; it has stopped its DMA. */
export function unbindDriver(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const memory = kernel.memory;
  const device = deviceOf(kernel, pciFunction);
  const driver = PciDevice.kernelDriver.load(memory, device) as KernelDriver;
  PciDevice.kernelDriver.store(memory, device, KernelDriver.NONE);
  if (driver === KernelDriver.DEFAULT_DOMAIN) kernel.operations.group.unuseDefaultDomain(kernel, device);
  else tellDriver(kernel, DriverUnbound, device, driver);
}
