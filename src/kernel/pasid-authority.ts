/**
 * Who lets a device reach an address space under a PASID, and how that is taken back: seed 001. As merged, who holds the device's descriptor and an iommufd that
 * the device is bound to (BIND took both) attaches an HWPT of that iommufd, under a number of his own choice, and nobody is called back.
 */
import type { Ref } from '#hostmem/object';
import { PasidRevoked } from './events.ts';
import { IommuGroup, PciDevice } from './iommu-group.ts';
import type { Kernel } from './kernel.ts';
import { vfioAttach, vfioDetach, VfioDevice, VfioFile, VfioFlag } from './vfio.ts';

/** The user's choice (in the models of 2021 the kernel's: PASIDs were allocated). */
export const requestPasid = (_kernel: Kernel, _file: Ref<'VfioFile'>, wanted: number): number => wanted;

export function authorisePasid(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number, ptId: number): void {
  vfioAttach(kernel, file, { argsz: 16, flags: VfioFlag.PASID, ptId, pasid });
}

/** On return the device reaches nothing by the number. */
export function revokePasid(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number): void {
  vfioDetach(kernel, file, { argsz: 12, flags: VfioFlag.PASID, pasid });
}

/** What was put off to a kernel thread: nothing. */
export function doPasidWork(): void {}

/** By the design in force; told when it is over. */
export function revokeByDesign(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number): void {
  kernel.operations.pasid.revoke(kernel, file, pasid);
  const device = VfioDevice.device.peek(kernel.memory, VfioFile.device.peek(kernel.memory, file));
  PasidRevoked.emit(kernel.memory, IommuGroup.number.peek(kernel.memory, PciDevice.group.peek(kernel.memory, device)), pasid);
}
