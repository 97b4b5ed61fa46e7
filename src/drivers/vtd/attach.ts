/**
 * Attaching a device to a domain (the kernel's `intel_iommu_attach_device`, `device_block_translation` and relatives): its context entry
 * in legacy mode, its PASID entry for requests without PASID in scalable mode.
 *
 * As in 7.2, translation is blocked *before* it is known whether the new domain will do: a refused attach leaves the device
 * blocked (`failedReplaceLeavesBlocked`, K7). Unlike 7.2 the cache tag is assigned before the entry is installed and
 * dropped after it is flushed; 7.2 leaves a window at both ends (`vtd-inval-list-*` in RACES).
 */
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { TranslationType, contextHigh, contextLow } from '../../hardware/vtd/context-entry.ts';
import * as registers from '../../hardware/vtd/registers.ts';
import { supportsLevels } from '../../hardware/vtd/registers.ts';
import { IommuDomain } from '../domain.ts';
import { IommuDevice, type AttachError } from '../driver.ts';
import { canAskForPages, supportsAts } from './ats.ts';
import { isNested, nests } from './nested.ts';
import { ridPasid } from './pasid-entry.ts';
import { identityDomainId } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** Every DMA of the device faults from here on. */
export function blockTranslation(vtd: Vtd, device: Ref<'IommuDevice'>): void {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  if (unit.scalable) vtd.operations.tearDownPasid(vtd, unit, device, ridPasid);
  else vtd.operations.clearContext(vtd, unit, device);
  const domain = IommuDevice.domain.peek(kernel, device);
  if (domain !== NULL) vtd.operations.leaveDomain(vtd, device, unit, domain);
  IommuDevice.domain.poke(kernel, device, NULL);
}

/** Takes the caches that the device filled off the domain's list; they are flushed. */
export function leaveDomain(vtd: Vtd, device: Ref<'IommuDevice'>, unit: VtdUnit, domain: Ref<'IommuDomain'>, pasid: number = ridPasid): void {
  const pciFunction = IommuDevice.function.peek(vtd.kernel, device);
  if (IommuDevice.atsEnabled.peek(vtd.kernel, device) !== 0) vtd.operations.unassignDeviceTag(vtd, domain, unit, pciFunction, pasid);
  vtd.operations.unassignTag(vtd, domain, unit, pasid);
}

/** Puts the unit, and the device's own cache if it has one, on the domain's list. Returns as `assignTag`. */
export function joinDomain(vtd: Vtd, device: Ref<'IommuDevice'>, unit: VtdUnit, domain: Ref<'IommuDomain'>, pasid: number = ridPasid): number {
  const domainId = vtd.operations.assignTag(vtd, domain, unit, pasid);
  if (domainId <= 0 || IommuDevice.atsEnabled.peek(vtd.kernel, device) === 0) return domainId;
  if (vtd.operations.assignDeviceTag(vtd, domain, unit, IommuDevice.function.peek(vtd.kernel, device), pasid)) return domainId;
  vtd.operations.unassignTag(vtd, domain, unit, pasid);
  return -1;
}

/** EINVAL when the unit cannot walk the domain's tables, ENODEV when the device cannot make page requests, ENOSPC without a domain id, ENOMEM (or in scalable mode ENODEV). */
export function attachPaging(vtd: Vtd, device: Ref<'IommuDevice'>, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  vtd.operations.blockTranslation(vtd, device);
  if (!isCompatible(vtd, unit, domain)) return 'EINVAL';
  if (IommuDomain.pageRequests.peek(kernel, domain) !== 0 && !canAskForPages(vtd, IommuDevice.function.peek(kernel, device))) return 'ENODEV';
  return vtd.operations.enterDomain(vtd, device, unit, domain);
}

/** Whether the unit walks tables of the domain's stage, levels and leaf sizes (`paging_domain_compatible`); of a nested one, those of its parent. */
export function isCompatible(vtd: Vtd, unit: VtdUnit, domain: Ref<'IommuDomain'>): boolean {
  if (isNested(vtd.kernel, domain)) return isCompatible(vtd, unit, IommuDomain.parent.peek(vtd.kernel, domain));
  if (IommuDomain.nestParent.peek(vtd.kernel, domain) !== 0 && !nests(unit)) return false;
  const levels = IommuDomain.levels.peek(vtd.kernel, domain);
  const largestLeaf = IommuDomain.largestLeaf.peek(vtd.kernel, domain);
  if (vtd.isFirstStage(domain)) return hasFirstStage(unit) && levels <= firstStageLevels(unit) && largestLeaf <= registers.firstStageLargestLeaf(unit.capabilityHigh);
  return hasSecondStage(unit) && supportsLevels(unit.capabilityLow, levels) && largestLeaf <= registers.secondStageLargestLeaf(unit.capabilityHigh);
}

/** The tag first, then the entry: whoever unmaps while the entry appears has the unit on its list. */
export function enterDomain(vtd: Vtd, device: Ref<'IommuDevice'>, unit: VtdUnit, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const kernel = vtd.kernel;
  const domainId = vtd.operations.joinDomain(vtd, device, unit, domain);
  if (domainId <= 0) return domainId === 0 ? 'ENOSPC' : 'ENOMEM';
  IommuDevice.domain.poke(kernel, device, domain);
  return installEntry(vtd, device, unit, domain, domainId);
}

/** Lets the device translate through the domain. ENODEV as `setUpPasid`, the device blocked again. */
export function installEntry(vtd: Vtd, device: Ref<'IommuDevice'>, unit: VtdUnit, domain: Ref<'IommuDomain'>, domainId: number): 0 | AttachError {
  const kernel = vtd.kernel;
  if (unit.scalable) {
    const error = vtd.operations.setUpPasid(vtd, unit, device, ridPasid, domain, domainId);
    if (error !== 0) vtd.operations.blockTranslation(vtd, device);
    return error;
  }
  const high = contextHigh(IommuDomain.levels.peek(kernel, domain), domainId);
  const type = supportsAts(vtd, unit, IommuDevice.function.peek(kernel, device)) ? TranslationType.ALSO_TRANSLATED : TranslationType.UNTRANSLATED_ONLY;
  const low = contextLow(IommuDomain.root.peek(kernel, domain), type);
  vtd.operations.installContext(vtd, unit, IommuDevice.function.peek(kernel, device), high, low);
  return 0;
}

/** Requests go to the addresses they name. ENODEV as `setUpPassThrough`. */
export function attachIdentity(vtd: Vtd, device: Ref<'IommuDevice'>): 0 | 'ENODEV' {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  vtd.operations.blockTranslation(vtd, device);
  if (unit.scalable) return vtd.operations.setUpPassThrough(vtd, unit, device, ridPasid, widestLevels(unit), identityDomainId);
  const high = contextHigh(widestLevels(unit), identityDomainId);
  vtd.operations.installContext(vtd, unit, IommuDevice.function.peek(kernel, device), high, contextLow(0 as Frame, TranslationType.PASS_THROUGH));
  return 0;
}

/** The most levels that the unit walks; a pass-through entry has to name them. */
export function widestLevels(unit: VtdUnit): 3 | 4 | 5 {
  return supportsLevels(unit.capabilityLow, 5) ? 5 : supportsLevels(unit.capabilityLow, 4) ? 4 : 3;
}

/** First stage is for scalable mode alone; there, each stage is optional. */
export const hasFirstStage = (unit: VtdUnit): boolean => unit.scalable && registers.supportsFirstStage(unit.extendedHigh);
export const hasSecondStage = (unit: VtdUnit): boolean => !unit.scalable || registers.supportsSecondStage(unit.extendedHigh);

/** The most levels of a first stage. */
export const firstStageLevels = (unit: VtdUnit): 4 | 5 => (registers.supportsFirstStage5(unit.capabilityHigh) ? 5 : 4);
