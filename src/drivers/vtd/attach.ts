/**
 * Attaching a device to a domain (the kernel's `intel_iommu_attach_device`, `device_block_translation` and relatives).
 *
 * As in 7.2, translation is blocked *before* it is known whether the new domain will do: a refused attach leaves the device
 * blocked (`failedReplaceLeavesBlocked`, K7). Unlike 7.2 the cache tag is assigned before the entry is installed and
 * dropped after it is flushed; 7.2 leaves a window at both ends (`vtd-inval-list-*` in RACES).
 */
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { TranslationType, contextHigh, contextLow } from '../../hardware/vtd/context-entry.ts';
import { supportsLevels } from '../../hardware/vtd/registers.ts';
import { IommuDomain } from '../domain.ts';
import { IommuDevice, type AttachError } from '../driver.ts';
import { identityDomainId } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** Every DMA of the device faults from here on. */
export function blockTranslation(vtd: Vtd, device: Ref<'IommuDevice'>): void {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  vtd.operations.clearContext(vtd, unit, IommuDevice.function.peek(kernel, device));
  const domain = IommuDevice.domain.peek(kernel, device);
  if (domain !== NULL) vtd.operations.unassignTag(vtd, domain, unit);
  IommuDevice.domain.poke(kernel, device, NULL);
}

/** EINVAL when the unit cannot walk the domain's tables, ENODEV when the device cannot make page requests, ENOSPC without a domain id, ENOMEM. */
export function attachPaging(vtd: Vtd, device: Ref<'IommuDevice'>, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  vtd.operations.blockTranslation(vtd, device);
  const levels = IommuDomain.levels.peek(kernel, domain);
  if (!supportsLevels(unit.capabilityLow, levels)) return 'EINVAL';
  if (IommuDomain.pageRequests.peek(kernel, domain) !== 0) return 'ENODEV';
  return vtd.operations.enterDomain(vtd, device, unit, domain);
}

/** The tag first, then the entry: whoever unmaps while the entry appears has the unit on its list. */
export function enterDomain(vtd: Vtd, device: Ref<'IommuDevice'>, unit: VtdUnit, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const kernel = vtd.kernel;
  const domainId = vtd.operations.assignTag(vtd, domain, unit);
  if (domainId <= 0) return domainId === 0 ? 'ENOSPC' : 'ENOMEM';
  IommuDevice.domain.poke(kernel, device, domain);
  const high = contextHigh(IommuDomain.levels.peek(kernel, domain), domainId);
  const low = contextLow(IommuDomain.root.peek(kernel, domain), TranslationType.UNTRANSLATED_ONLY);
  vtd.operations.installContext(vtd, unit, IommuDevice.function.peek(kernel, device), high, low);
  return 0;
}

/** Requests go to the addresses they name. */
export function attachIdentity(vtd: Vtd, device: Ref<'IommuDevice'>): 0 {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  vtd.operations.blockTranslation(vtd, device);
  const high = contextHigh(widestLevels(unit), identityDomainId);
  vtd.operations.installContext(vtd, unit, IommuDevice.function.peek(kernel, device), high, contextLow(0 as Frame, TranslationType.PASS_THROUGH));
  return 0;
}

/** The most levels that the unit walks; a pass-through entry has to name them. */
export function widestLevels(unit: VtdUnit): 3 | 4 | 5 {
  return supportsLevels(unit.capabilityLow, 5) ? 5 : supportsLevels(unit.capabilityLow, 4) ? 4 : 3;
}
