/** Attaching a device to a domain (the kernel's `amd_iommu_attach_device`, `detach_device`): blocked first, as 7.2 does it, then on the new one. */
import { NULL, type Ref } from '#hostmem/object';
import { IommuDomain } from '../domain.ts';
import { IommuDevice, type AttachError } from '../driver.ts';
import { addUnitUser, removeUnitUser } from '../unit-tags.ts';
import type { Amd, AmdMember } from './amd.ts';
import { clearedEntry, identityEntry, pagingEntry, writeEntries } from './device-table.ts';
import { flushDomain } from './flush.ts';
import { amdDomainOf } from './top.ts';
import { AmdDomain } from './unit-state.ts';

const unitOf = (amd: Amd, device: Ref<'IommuDevice'>): AmdMember => amd.unit(IommuDevice.unit.peek(amd.kernel, device));

/** Every DMA of the device faults from here on; on return nothing uses what it translated through. */
export function block(amd: Amd, device: Ref<'IommuDevice'>): void {
  const { kernel } = amd;
  const unit = unitOf(amd, device);
  const pciFunction = IommuDevice.function.peek(kernel, device);
  const domain = IommuDevice.domain.peek(kernel, device);
  if (domain === NULL) {
    writeEntries(amd, unit, pciFunction, clearedEntry);
    return;
  }
  // Under the lock a domain that grows writes the entries of its devices.
  IommuDomain.tagLock.acquire(kernel, domain);
  IommuDevice.domain.poke(kernel, device, NULL);
  writeEntries(amd, unit, pciFunction, clearedEntry);
  flushDomain(amd, domain);
  removeUnitUser(kernel, domain, unit.ref);
  IommuDomain.tagLock.release(kernel, domain);
}

/** ENODEV for a domain of page requests; ENOMEM, with the device blocked. */
export function attachPaging(amd: Amd, device: Ref<'IommuDevice'>, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const { kernel } = amd;
  if (IommuDomain.pageRequests.peek(kernel, domain) !== 0) return 'ENODEV';
  const unit = unitOf(amd, device);
  const own = amdDomainOf(amd, domain);
  const domainId = AmdDomain.domainId.peek(kernel, own);
  if (IommuDevice.domain.peek(kernel, device) === domain) return 0;
  amd.operations.block(amd, device);
  IommuDomain.tagLock.acquire(kernel, domain);
  const added = addUnitUser(kernel, domain, unit.ref, domainId);
  if (added) {
    IommuDevice.domain.poke(kernel, device, domain);
    writeEntries(amd, unit, IommuDevice.function.peek(kernel, device), pagingEntry(AmdDomain.top.load(kernel, own), domainId));
  }
  IommuDomain.tagLock.release(kernel, domain);
  return added ? 0 : 'ENOMEM';
}

/** Requests go to the addresses they name. */
export function attachIdentity(amd: Amd, device: Ref<'IommuDevice'>): 0 {
  amd.operations.block(amd, device);
  writeEntries(amd, unitOf(amd, device), IommuDevice.function.peek(amd.kernel, device), identityEntry);
  return 0;
}
