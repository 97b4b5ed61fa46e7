/** What the caches of a host's units and functions hold, and which cache tags say so: for invariants. As no point. */
import { NULL, type Ref } from '#hostmem/object';
import { CacheTag, IommuDomain } from '../drivers/domain.ts';
import { AmdDriverState, AmdUnitState } from '../drivers/amd/unit-state.ts';
import { IommuDevice } from '../drivers/driver.ts';
import { DevicePasid } from '../drivers/vtd/device-pasid.ts';
import { ridPasid } from '../drivers/vtd/pasid-entry.ts';
import { isIdTaken } from '../drivers/id-bitmap.ts';
import { RiscvDriverState, RiscvUnitState } from '../drivers/riscv/unit-state.ts';
import { SmmuDriverState, SmmuUnitState } from '../drivers/smmuv3/unit-state.ts';
import { firstDomainId, isDomainIdTaken } from '../drivers/vtd/unit-state.ts';
import { Atc, withoutPasid } from '../hardware/atc.ts';
import { PciFunction } from '../hardware/function.ts';
import { iotlbLines } from '../hardware/iotlb.ts';
import { isNestedName, secondRootOf } from '../hardware/nested-line.ts';
import { taggedLines } from '../hardware/tagged-cache.ts';
import { vmidTag } from '../hardware/smmuv3/streams.ts';
import { isUnderVmid } from '../hardware/smmuv3/tlb-tag.ts';
import { IommuUnit, UnitKind } from '../hardware/unit.ts';
import { IommuGroup, PciDevice } from '../kernel/iommu-group.ts';
import type { View } from './view.ts';

/** All functions of a host that a unit stands before. */
export function functionsOf(view: View): Ref<'PciFunction'>[] {
  const kernel = view.host.kernel;
  const all = view.groups().flatMap((group) => view.members(group)).map((device) => PciDevice.function.peek(kernel, device));
  return all.filter((one) => PciFunction.unit.peek(kernel, one) !== NULL);
}

export function unitsOf(view: View): Ref<'IommuUnit'>[] {
  return [...new Set(functionsOf(view).map((one) => PciFunction.unit.peek(view.host.kernel, one)))];
}

/** A translation in a cache: of a unit, or with `function` of a device. */
export interface CachedTranslation {
  readonly unit: Ref<'IommuUnit'>;
  readonly function: Ref<'PciFunction'>;
  readonly root: number;
  /** Under which number a unit has it; -1 in a device's cache, which knows none. */
  readonly domainId: number;
  /** The PASID that an invalidation has to name; null where it is found by its domain id. */
  readonly pasid: number | null;
}

/** Every cached translation that came from page tables. */
export function cachedTranslations(view: View): CachedTranslation[] {
  const kernel = view.host.kernel;
  const ofUnits = unitsOf(view).flatMap((unit) =>
    iotlbLines(kernel, IommuUnit.iotlb.peek(kernel, unit)).map(({ root, domainId, firstStage, pasid }) =>
      ({ unit, function: NULL as Ref<'PciFunction'>, root: root as number, domainId, pasid: firstStage && !isSmmu(view, unit) ? pasid : null })));
  const ofFunctions = functionsOf(view).flatMap((one) => {
    const atc = PciFunction.atc.peek(kernel, one);
    const lines = atc === NULL ? [] : taggedLines(kernel, Atc.lines.peek(kernel, atc));
    return lines.map(({ value2, owner }) => ({ unit: PciFunction.unit.peek(kernel, one), function: one, root: value2, domainId: -1, pasid: owner === withoutPasid ? ridPasid : owner }));
  });
  return [...ofUnits, ...ofFunctions].filter(({ root }) => root !== 0);
}

/** The domains that devices are on, as the driver knows it and as the core does (they differ while a device moves), and their parents. */
function domainsInUse(view: View): Ref<'IommuDomain'>[] {
  const kernel = view.host.kernel;
  const devices = functionsOf(view).map((one) => PciFunction.driverData.peek(kernel, one) as Ref<'IommuDevice'>).filter((device) => device !== NULL);
  const ofDevices = devices.flatMap((device) => [IommuDevice.domain.peek(kernel, device), ...pasidDomains(view, device)]);
  const ofGroups = view.groups().flatMap((group) => [IommuGroup.domain.peek(kernel, group), IommuGroup.defaultDomain.peek(kernel, group)]);
  const all = [...ofDevices, ...ofGroups].filter((domain) => domain !== NULL);
  return [...new Set([...all, ...all.map((domain) => IommuDomain.parent.peek(kernel, domain))])].filter((domain) => domain !== NULL);
}

function pasidDomains(view: View, device: Ref<'IommuDevice'>): Ref<'IommuDomain'>[] {
  const kernel = view.host.kernel;
  const found: Ref<'IommuDomain'>[] = [];
  for (let at = IommuDevice.pasids.peek(kernel, device); at !== NULL; at = DevicePasid.next.peek(kernel, at)) found.push(DevicePasid.domain.peek(kernel, at));
  return found;
}

/**
 * Whether some domain in use has that root table and a cache tag for the cache, under the PASID that it is found by; and the parent of a nested domain
 * one that is there for it. On SMMUv3 the parent's own tag is for both: one VMID finds what stage 2 has translated, alone or below a stage 1.
 */
export function isCovered(view: View, cached: CachedTranslation): boolean {
  if (isSmmu(view, cached.unit) && isNestedName(cached.root)) return isListed(view, cached, secondRootOf(cached.root), 0);
  return isListed(view, cached, cached.root, 0) && (!isNestedName(cached.root) || isListed(view, cached, secondRootOf(cached.root), cached.root));
}

const isSmmu = (view: View, unit: Ref<'IommuUnit'>): boolean => IommuUnit.kind.peek(view.host.kernel, unit) === UnitKind.SMMUV3;

/** `nestedRoot` is the root of the domain that the tag is there for; 0 for the domain's own. */
function isListed(view: View, { unit, function: pciFunction, domainId, pasid }: CachedTranslation, root: number, nestedRoot: number): boolean {
  const kernel = view.host.kernel;
  for (const domain of domainsInUse(view)) {
    if (IommuDomain.root.peek(kernel, domain) !== root) continue;
    for (let tag: Ref<'CacheTag'> = IommuDomain.firstTag.peek(kernel, domain); tag !== NULL; tag = CacheTag.next.peek(kernel, tag)) {
      if (CacheTag.unit.peek(kernel, tag) !== unit || CacheTag.function.peek(kernel, tag) !== pciFunction) continue;
      if (pasid !== null && CacheTag.pasid.peek(kernel, tag) !== pasid) continue;
      const nested = CacheTag.nested.peek(kernel, tag);
      if (nestedRoot === 0 && nested === NULL) return true;
      // Two nested domains may have one pair of roots, but not one number.
      if (nested === NULL || IommuDomain.root.peek(kernel, nested) !== nestedRoot) continue;
      if (domainId < 0 || CacheTag.domainId.peek(kernel, tag) === domainId) return true;
    }
  }
  return false;
}

/** The numbers under which a unit's caches hold anything: domain ids, address spaces; of SMMUv3 VMIDs too, told from ASIDs by `vmidTag`. */
export function cachedDomainIds(view: View, unit: Ref<'IommuUnit'>): Set<number> {
  const kernel = view.host.kernel;
  const hasVmids = isSmmu(view, unit);
  const tagged = [IommuUnit.contextCache, IommuUnit.pasidCache, IommuUnit.walkCache].flatMap((cache) => taggedLines(kernel, cache.peek(kernel, unit)));
  const lines = iotlbLines(kernel, IommuUnit.iotlb.peek(kernel, unit));
  const ofLines = lines.map(({ domainId, firstStage, pasid }) => (hasVmids && isUnderVmid(firstStage, pasid) ? domainId | vmidTag : domainId));
  return new Set([...tagged.map(({ tag }) => tag & (hasVmids ? vmidTag | 0xffff : 0xffff)), ...ofLines]);
}

/** Whether such a number is some domain's, or one that none is ever given. */
export function isNumberTaken(view: View, unit: Ref<'IommuUnit'>, number: number): boolean {
  const kernel = view.host.kernel;
  const state = IommuUnit.driverData.peek(kernel, unit);
  const kind = IommuUnit.kind.peek(kernel, unit);
  if (kind === UnitKind.VTD) return number < firstDomainId || isDomainIdTaken(kernel, state as Ref<'VtdUnitState'>, number);
  if ((number & 0xffff) === 0) return true;
  if (kind === UnitKind.AMD) return isIdTaken(kernel, AmdDriverState.domainIds.peek(kernel, AmdUnitState.driver.peek(kernel, state as Ref<'AmdUnitState'>)), number);
  if (kind === UnitKind.RISCV) return isIdTaken(kernel, RiscvDriverState.pscids.peek(kernel, RiscvUnitState.driver.peek(kernel, state as Ref<'RiscvUnitState'>)), number);
  const ids = number < vmidTag ? SmmuDriverState.asids : SmmuDriverState.vmids;
  return isIdTaken(kernel, ids.peek(kernel, SmmuUnitState.driver.peek(kernel, state as Ref<'SmmuUnitState'>)), number & 0xffff);
}

/** The PASIDs under which a cache holds anything: entries of PASID tables, first-stage translations, and what devices were told on requests with one. */
export function cachedPasids(view: View): Set<number> {
  const kernel = view.host.kernel;
  const entries = unitsOf(view).map((unit) => IommuUnit.pasidCache.peek(kernel, unit)).flatMap((cache) => taggedLines(kernel, cache).map(({ owner }) => owner));
  const translations = unitsOf(view).flatMap((unit) => iotlbLines(kernel, IommuUnit.iotlb.peek(kernel, unit)).map(({ pasid }) => pasid));
  const told = functionsOf(view).flatMap((one) => {
    const atc = PciFunction.atc.peek(kernel, one);
    return atc === NULL ? [] : taggedLines(kernel, Atc.lines.peek(kernel, atc)).map(({ owner }) => owner);
  });
  return new Set([...entries, ...translations, ...told]);
}
