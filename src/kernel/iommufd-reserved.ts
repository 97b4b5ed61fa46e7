/**
 * Reserved regions of devices: while a device is attached, its IOAS has no mapping there (`iopt_table_enforce_dev_resv_regions`).
 */
import { NULL, type Ref } from '#hostmem/object';
import { Ioas } from './ioas.ts';
import { PciDevice } from './iommu-group.ts';
import { IommufdDevice } from './iommufd-device.ts';
import { IommufdGroup } from './iommufd-group.ts';
import { reserve, unreserve } from './iopt-ranges.ts';
import type { Kernel } from './kernel.ts';

/** The window that x86 reserves for interrupts in every IOAS with a PCI device. */
export const msiWindow = { start: 0xfee00000n, last: 0xfeefffffn } as const;

/** The device's reserved regions (of VT-d the interrupt window) become the IOAS's. EADDRINUSE when one is in use. */
export function reserveForDevice(kernel: Kernel, ioas: Ref<'Ioas'>, device: Ref<'IommufdDevice'>): void {
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  try {
    const pci = IommufdDevice.device.peek(kernel.memory, device);
    for (const { first, last } of kernel.driver.reservedRegions(PciDevice.function.peek(kernel.memory, pci))) {
      reserve(kernel, ioas, BigInt(first), BigInt(last), device);
    }
  } catch (error) {
    unreserve(kernel, ioas, device);
    throw error;
  } finally {
    Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  }
}

export function unreserveForDevice(kernel: Kernel, ioas: Ref<'Ioas'>, device: Ref<'IommufdDevice'>): void {
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  unreserve(kernel, ioas, device);
  Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
}

/** Step 3: every attached member's regions, or none of them. */
export function reserveForMembers(kernel: Kernel, group: Ref<'IommufdGroup'>, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  let at = IommufdGroup.attached.read(memory, group);
  try {
    for (; at !== NULL; at = IommufdDevice.nextAttached.read(memory, at)) reserveForDevice(kernel, ioas, at);
  } catch (error) {
    for (let undo = IommufdGroup.attached.read(memory, group); undo !== at; undo = IommufdDevice.nextAttached.read(memory, undo)) {
      unreserveForDevice(kernel, ioas, undo);
    }
    throw error;
  }
}

export function unreserveForMembers(kernel: Kernel, group: Ref<'IommufdGroup'>, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  for (let at = IommufdGroup.attached.read(memory, group); at !== NULL; at = IommufdDevice.nextAttached.read(memory, at)) {
    unreserveForDevice(kernel, ioas, at);
  }
}
