/**
 * A function comes to the IOMMU and leaves it while the host runs: probe, ATS, release (drivers/iommu/iommu.c, under the group's mutex).
 *
 * Membership of groups is fixed once the world is built: a function that left and came back is where it was.
 */
import { NULL, type Ref } from '#hostmem/object';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import { KernelRoot, type Kernel } from './kernel.ts';

/** Sets a function up again and puts it on its group's domain (`iommu_probe_device`). ENOMEM. */
export function probeDevice(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const group = lockGroupOf(kernel, pciFunction);
  try {
    kernel.driver.probe(pciFunction);
    kernel.operations.driver.attach(kernel, IommuGroup.domain.read(kernel.memory, group), pciFunction);
  } finally {
    IommuGroup.mutex.release(kernel.memory, group);
  }
}

/** Unplugs a function, which may be in the middle of a DMA (`iommu_release_device`). */
export function releaseDevice(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const group = lockGroupOf(kernel, pciFunction);
  kernel.driver.release(pciFunction);
  IommuGroup.mutex.release(kernel.memory, group);
}

/** Lets a function with ATS keep translations, whatever it is attached to (`iommu_enable_pci_ats`, from `probe_finalize`). ENOMEM. */
export function enableAts(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const group = lockGroupOf(kernel, pciFunction);
  try {
    kernel.driver.enableAts?.(pciFunction);
  } finally {
    IommuGroup.mutex.release(kernel.memory, group);
  }
}

export function disableAts(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const group = lockGroupOf(kernel, pciFunction);
  kernel.driver.disableAts?.(pciFunction);
  IommuGroup.mutex.release(kernel.memory, group);
}

function lockGroupOf(kernel: Kernel, pciFunction: Ref<'PciFunction'>): Ref<'IommuGroup'> {
  const group = groupOf(kernel, pciFunction);
  IommuGroup.mutex.acquire(kernel.memory, group);
  return group;
}

/** The group that a function is a member of. */
export const groupOf = (kernel: Kernel, pciFunction: Ref<'PciFunction'>): Ref<'IommuGroup'> => PciDevice.group.peek(kernel.memory, deviceOf(kernel, pciFunction));

/** A function as the kernel knows it. */
export function deviceOf(kernel: Kernel, pciFunction: Ref<'PciFunction'>): Ref<'PciDevice'> {
  const memory = kernel.memory;
  for (let group = KernelRoot.groups.peek(memory, kernel.root); group !== NULL; group = IommuGroup.next.peek(memory, group))
    for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member))
      if (PciDevice.function.peek(memory, member) === pciFunction) return member;
  throw new Error('a function is in no group');
}
