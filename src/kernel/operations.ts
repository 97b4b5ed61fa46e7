/**
 * The functions that a variant may replace, as Linux 7.2 has them. A variant differs from this table in one function.
 */
import type { Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { queueIova } from './dma-iommu.ts';
import { destroyEventQueue } from './event-queue.ts';
import { destroyFaultQueue } from './fault-queue.ts';
import { faultsOf72, type FaultsOf72 } from './faults-of-72.ts';
import { vtdOperations, type VtdOperations } from '../drivers/vtd/operations.ts';
import type { Kernel } from './kernel.ts';
import { destroyHwQueue } from './hw-queue.ts';
import { destroyHwpt } from './hwpt.ts';
import { destroyNestedHwpt } from './hwpt-nested.ts';
import { destroyIoas } from './ioas.ts';
import { emptyArea } from './iopt.ts';
import { destroyVdevice } from './vdevice.ts';
import { destroyViommu } from './viommu.ts';
import { attach, destroyDevice, detach, replace } from './iommufd-device.ts';

/** Destructors, by kind of object. */
export interface ObjectOperations {
  destroyIoas(kernel: Kernel, ioas: Ref<'Ioas'>): void;
  destroyHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void;
  destroyDevice(kernel: Kernel, device: Ref<'IommufdDevice'>): void;
  destroyFaultQueue(kernel: Kernel, queue: Ref<'FaultQueue'>): void;
  destroyNestedHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void;
  destroyViommu(kernel: Kernel, viommu: Ref<'Viommu'>): void;
  destroyVdevice(kernel: Kernel, vdevice: Ref<'Vdevice'>): void;
  destroyEventQueue(kernel: Kernel, queue: Ref<'EventQueue'>): void;
  destroyHwQueue(kernel: Kernel, queue: Ref<'HwQueue'>): void;
}

/** How a device joins, moves and leaves its group's attachment. */
export interface AttachOperations {
  attach(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): void;
  /** Returns the HWPT whose last user the caller drops, or null. */
  replace(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): Ref<'Hwpt'>;
  detach(kernel: Kernel, device: Ref<'IommufdDevice'>): Ref<'Hwpt'>;
}

/** How an IOAS's translations leave a domain. */
export interface IoptOperations {
  /** Clears one domain's entries of an area and lets its pages go. The caller holds the pages' mutex. */
  emptyArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void;
}

/** What the core asks of the IOMMU driver for one member of a group. */
export interface DriverOperations {
  attach(kernel: Kernel, domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): void;
}

/** How the DMA API puts off flushes. */
export interface DmaOperations {
  queueIova(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number): void;
}

export interface Operations {
  readonly objects: ObjectOperations;
  readonly attach: AttachOperations;
  readonly iopt: IoptOperations;
  readonly driver: DriverOperations;
  readonly dma: DmaOperations;
  /** The functions of the VT-d driver. */
  readonly vtd: VtdOperations;
  readonly faults: FaultsOf72;
}

export const linux72: Operations = Object.freeze({
  objects: Object.freeze({
    destroyIoas, destroyHwpt, destroyDevice, destroyFaultQueue, destroyNestedHwpt, destroyViommu, destroyVdevice, destroyEventQueue, destroyHwQueue,
  }),
  attach: Object.freeze({ attach, replace, detach }),
  iopt: Object.freeze({ emptyArea }),
  driver: Object.freeze({
    attach(kernel: Kernel, domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): void {
      const problem = kernel.driver.attach(domain, pciFunction);
      if (problem !== 0) fail(problem, 'the driver refuses the domain for the device');
    },
  }),
  dma: Object.freeze({ queueIova }),
  vtd: Object.freeze({ ...vtdOperations }),
  faults: faultsOf72,
});
