/**
 * A function is reset while its group goes on (`pci_dev_reset_iommu_prepare`, `pci_dev_reset_iommu_done`, SEMANTICS B12). Only functions with
 * ATS: an invalidation that waits for a device in reset would never end.
 *
 *   normal -> parked in blocking    by prepareReset (the first)    with all PASIDs; the group keeps its domains, and may not move but in teardown
 *   parked -> normal                by finishReset (the last)      on what the group has *then*
 */
import type { Ref } from '#hostmem/object';
import { assert } from './errno.ts';
import { ResetEnded, ResetEnds, ResetPrepared } from './events.ts';
import { parkPasids, restorePasids } from './group-pasid.ts';
import { IommuGroup, PciDevice, setMemberDomain } from './iommu-group.ts';
import { deviceOf } from './iommu-probe.ts';
import type { Kernel } from './kernel.ts';

/** Before the reset. EINVAL when the function cannot be blocked. Pairs with `finishReset`. */
export function prepareReset(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const memory = kernel.memory;
  const device = deviceOf(kernel, pciFunction);
  if (PciDevice.ats.peek(memory, device) === 0) return;
  const group = PciDevice.group.peek(memory, device);
  IommuGroup.mutex.acquire(memory, group);
  try {
    const depth = PciDevice.resetDepth.read(memory, device);
    if (depth === 0) park(kernel, group, device);
    PciDevice.resetDepth.write(memory, device, depth + 1);
  } finally {
    IommuGroup.mutex.release(memory, group);
  }
}

function park(kernel: Kernel, group: Ref<'IommuGroup'>, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  setMemberDomain(kernel, group, IommuGroup.blockingDomain.peek(memory, group), device);
  parkPasids(kernel, group, device);
  PciDevice.blocked.write(memory, device, 1);
  IommuGroup.recoveryCount.write(memory, group, IommuGroup.recoveryCount.read(memory, group) + 1);
  ResetPrepared.emit(memory, IommuGroup.number.peek(memory, group), PciDevice.address.peek(memory, device));
}

/** After the reset. */
export function finishReset(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const memory = kernel.memory;
  const device = deviceOf(kernel, pciFunction);
  if (PciDevice.ats.peek(memory, device) === 0) return;
  const group = PciDevice.group.peek(memory, device);
  IommuGroup.mutex.acquire(memory, group);
  const depth = PciDevice.resetDepth.read(memory, device) - 1;
  assert(depth >= 0, 'a reset is done that was prepared');
  PciDevice.resetDepth.write(memory, device, depth);
  if (depth === 0) restore(kernel, group, device);
  IommuGroup.mutex.release(memory, group);
}

function restore(kernel: Kernel, group: Ref<'IommuGroup'>, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const rid = PciDevice.address.peek(memory, device);
  ResetEnds.emit(memory, IommuGroup.number.peek(memory, group), rid);
  setMemberDomain(kernel, group, IommuGroup.domain.read(memory, group), device);
  restorePasids(kernel, group, device);
  PciDevice.blocked.write(memory, device, 0);
  IommuGroup.recoveryCount.write(memory, group, IommuGroup.recoveryCount.read(memory, group) - 1);
  ResetEnded.emit(memory, IommuGroup.number.peek(memory, group), rid);
}
