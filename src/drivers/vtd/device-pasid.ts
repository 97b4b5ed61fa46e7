/**
 * PASIDs of a device (the kernel's `intel_iommu_set_dev_pasid`, and that of its blocking domain): each goes through a domain of its own, whatever
 * the requests without PASID do.
 *
 * As with those, a replace is break before make, the tag joins before the entry is installed and leaves after it is flushed.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { PciFunction } from '../../hardware/function.ts';
import { supportsPasids } from '../../hardware/vtd/registers.ts';
import { IommuDomain } from '../domain.ts';
import { IommuDevice, type AttachError } from '../driver.ts';
import { canAskForPages } from './ats.ts';
import { isCompatible } from './attach.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** A PASID that goes through a domain (`struct dev_pasid_info`); owned as `IommuDevice` is. */
export const DevicePasid = object('DevicePasid', { pasid: u32, domain: ref('IommuDomain'), next: ref('DevicePasid') });

/** How many PASIDs the requests of a function may carry: 0 where it or its unit has none. */
export const pasidsOf = (vtd: Vtd, unit: VtdUnit, pciFunction: Ref<'PciFunction'>): number =>
  unit.scalable && supportsPasids(unit.extendedHigh) ? PciFunction.pasids.peek(vtd.kernel, pciFunction) : 0;

/** EINVAL when the unit cannot walk the domain's tables, ENODEV when the device cannot make page requests, ENOSPC, ENOMEM; all is as before then. */
export function setPasid(vtd: Vtd, device: Ref<'IommuDevice'>, pasid: number, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  if (!isCompatible(vtd, unit, domain)) return 'EINVAL';
  if (IommuDomain.pageRequests.peek(kernel, domain) !== 0 && !canAskForPages(vtd, IommuDevice.function.peek(kernel, device))) return 'ENODEV';
  const known = find(vtd, device, pasid);
  const entry = known === NULL ? DevicePasid.tryCreate(kernel) : known;
  if (entry === NULL) return 'ENOMEM';
  const domainId = vtd.operations.joinDomain(vtd, device, unit, domain, pasid);
  if (domainId <= 0) {
    if (known === NULL) DevicePasid.free(kernel, entry);
    return domainId === 0 ? 'ENOSPC' : 'ENOMEM';
  }
  const old = DevicePasid.domain.peek(kernel, entry);
  if (known !== NULL) vtd.operations.tearDownPasid(vtd, unit, device, pasid);
  // The record comes before the entry (`domain_add_dev_pasid`): who looks for the domains of a device finds what its entries name.
  DevicePasid.domain.poke(kernel, entry, domain);
  if (known === NULL) link(vtd, device, entry, pasid);
  // Only the first entry of its table of 64 can find no memory: there is nothing to put back.
  const error = vtd.operations.setUpPasid(vtd, unit, device, pasid, domain, domainId);
  if (error !== 0) {
    vtd.operations.leaveDomain(vtd, device, unit, domain, pasid);
    unlink(vtd, device, entry);
    DevicePasid.free(kernel, entry);
    return error;
  }
  if (known !== NULL) vtd.operations.leaveDomain(vtd, device, unit, old, pasid);
  return 0;
}

/** Requests with the PASID fault from here on; nothing when it is not set. */
export function removePasid(vtd: Vtd, device: Ref<'IommuDevice'>, pasid: number): void {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  const gone = find(vtd, device, pasid);
  if (gone === NULL) return;
  vtd.operations.tearDownPasid(vtd, unit, device, pasid);
  vtd.operations.leaveDomain(vtd, device, unit, DevicePasid.domain.peek(kernel, gone), pasid);
  unlink(vtd, device, gone);
  DevicePasid.free(kernel, gone);
}

function find(vtd: Vtd, device: Ref<'IommuDevice'>, pasid: number): Ref<'DevicePasid'> {
  let at: Ref<'DevicePasid'> = IommuDevice.pasids.peek(vtd.kernel, device);
  while (at !== NULL && DevicePasid.pasid.peek(vtd.kernel, at) !== pasid) at = DevicePasid.next.peek(vtd.kernel, at);
  return at;
}

function link(vtd: Vtd, device: Ref<'IommuDevice'>, added: Ref<'DevicePasid'>, pasid: number): void {
  DevicePasid.pasid.poke(vtd.kernel, added, pasid);
  DevicePasid.next.poke(vtd.kernel, added, IommuDevice.pasids.peek(vtd.kernel, device));
  IommuDevice.pasids.poke(vtd.kernel, device, added);
}

function unlink(vtd: Vtd, device: Ref<'IommuDevice'>, gone: Ref<'DevicePasid'>): void {
  const kernel = vtd.kernel;
  const next = DevicePasid.next.peek(kernel, gone);
  let at = IommuDevice.pasids.peek(kernel, device);
  if (at === gone) IommuDevice.pasids.poke(kernel, device, next);
  else {
    while (DevicePasid.next.peek(kernel, at) !== gone) at = DevicePasid.next.peek(kernel, at);
    DevicePasid.next.poke(kernel, at, next);
  }
}
