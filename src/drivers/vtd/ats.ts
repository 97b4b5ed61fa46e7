/**
 * ATS of a device (the kernel's `iommu_enable_pci_ats` and `iommu_disable_pci_ats`), in the order of E7: its entry has allowed ATS since
 * probe; the domain's list before the device, the device before the list.
 */
import { NULL, type Ref } from '#hostmem/object';
import { Atc } from '../../hardware/atc.ts';
import { PciFunction } from '../../hardware/function.ts';
import { supportsDeviceTlbs, supportsPageRequests } from '../../hardware/vtd/registers.ts';
import { fail } from '../../kernel/errno.ts';
import { IommuDevice } from '../driver.ts';
import { DevicePasid } from './device-pasid.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** Whether the unit serves device TLBs and the function has one. */
export function supportsAts(vtd: Vtd, unit: VtdUnit, pciFunction: Ref<'PciFunction'>): boolean {
  return supportsDeviceTlbs(unit.extendedLow) && PciFunction.atc.peek(vtd.kernel, pciFunction) !== NULL;
}

/** Whether unit and function have page requests, which a device without ATS cannot make. */
export const canAskForPages = (vtd: Vtd, pciFunction: Ref<'PciFunction'>): boolean => {
  const unit = vtd.unit(PciFunction.unit.peek(vtd.kernel, pciFunction));
  return unit.scalable && supportsAts(vtd, unit, pciFunction) && supportsPageRequests(unit.extendedLow) && PciFunction.nextGroup.peek(vtd.kernel, pciFunction) !== 0;
};

/** From here on the device keeps translations of what it is attached to. ENOMEM. */
export function enableAts(vtd: Vtd, device: Ref<'IommuDevice'>): void {
  const kernel = vtd.kernel;
  const pciFunction = IommuDevice.function.peek(kernel, device);
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  if (!supportsAts(vtd, unit, pciFunction) || IommuDevice.atsEnabled.peek(kernel, device) !== 0) return;
  const domain = IommuDevice.domain.peek(kernel, device);
  if (domain !== NULL && !vtd.operations.assignDeviceTag(vtd, domain, unit, pciFunction)) fail('ENOMEM', 'no memory for a cache tag');
  for (let at = IommuDevice.pasids.peek(kernel, device); at !== NULL; at = DevicePasid.next.peek(kernel, at)) {
    const tagged = vtd.operations.assignDeviceTag(vtd, DevicePasid.domain.peek(kernel, at), unit, pciFunction, DevicePasid.pasid.peek(kernel, at));
    if (!tagged) fail('ENOMEM', 'no memory for a cache tag');
  }
  setAts(vtd, device, true);
}

/** Writes the device's control register. */
export function setAts(vtd: Vtd, device: Ref<'IommuDevice'>, on: boolean): void {
  const atc = PciFunction.atc.peek(vtd.kernel, IommuDevice.function.peek(vtd.kernel, device));
  IommuDevice.atsEnabled.poke(vtd.kernel, device, on ? 1 : 0);
  Atc.enabled.store(vtd.kernel, atc, on ? 1 : 0);
}

/** On return the device holds no translation and asks for none. */
export function disableAts(vtd: Vtd, device: Ref<'IommuDevice'>): void {
  const kernel = vtd.kernel;
  const pciFunction = IommuDevice.function.peek(kernel, device);
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  if (IommuDevice.atsEnabled.peek(kernel, device) === 0) return;
  setAts(vtd, device, false);
  vtd.operations.submit(vtd, unit, vtd.batch.clear().deviceTlb(PciFunction.rid.peek(kernel, pciFunction), 0, 0, 52));
  const domain = IommuDevice.domain.peek(kernel, device);
  if (domain !== NULL) vtd.operations.unassignDeviceTag(vtd, domain, unit, pciFunction);
  for (let at = IommuDevice.pasids.peek(kernel, device); at !== NULL; at = DevicePasid.next.peek(kernel, at)) {
    const pasid = DevicePasid.pasid.peek(kernel, at);
    vtd.operations.submit(vtd, unit, vtd.batch.clear().deviceTlb(PciFunction.rid.peek(kernel, pciFunction), 0, 0, 52, pasid));
    vtd.operations.unassignDeviceTag(vtd, DevicePasid.domain.peek(kernel, at), unit, pciFunction, pasid);
  }
}
