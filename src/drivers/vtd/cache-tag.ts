/**
 * Cache tags: which caches may hold a domain's translations (the kernel's `cache.c`). A tag joins before the first entry that points to the
 * domain is installed, and leaves after the last one was removed and flushed (INVARIANTS C1).
 */
import { NULL, type Ref } from '#hostmem/object';
import { CacheTag, IommuDomain } from '../domain.ts';
import { DomainIdReturned } from '../events.ts';
import { isNested } from './nested.ts';
import { ridPasid } from './pasid-entry.ts';
import { returnDomainId, takeDomainId } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/**
 * Puts the unit on the domain's list, or counts one more user of its tag; of a nested domain, on the list of its parent too. `taken` is a domain id
 * that the caller has taken for it. Returns the domain id, 0 when none is left, -1 without memory.
 */
export function assignTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number = ridPasid, taken: number = 0): number {
  const domainId = addUser(vtd, domain, NULL, unit, pasid, taken);
  if (domainId <= 0 || !isNested(vtd.kernel, domain) || vtd.operations.assignParentTag(vtd, domain, unit, pasid, domainId)) return domainId;
  removeUser(vtd, domain, NULL, unit, pasid);
  return -1;
}

/** One user less; the last one takes the tag off the list, and with the unit's last tag goes the domain id. */
export function unassignTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number = ridPasid): void {
  if (isNested(vtd.kernel, domain)) vtd.operations.unassignParentTag(vtd, domain, unit, pasid);
  removeUser(vtd, domain, NULL, unit, pasid);
}

/**
 * The unit holds what both stages made of the parent's pages, under the nested domain's id (`cache_tag_assign` with CACHE_TAG_NESTING_IOTLB). False
 * without memory.
 */
export function assignParentTag(vtd: Vtd, nested: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number, domainId: number): boolean {
  return addUser(vtd, IommuDomain.parent.peek(vtd.kernel, nested), nested, unit, pasid, domainId) > 0;
}

export function unassignParentTag(vtd: Vtd, nested: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number): void {
  removeUser(vtd, IommuDomain.parent.peek(vtd.kernel, nested), nested, unit, pasid);
}

/** Returns as `assignTag`. */
function addUser(vtd: Vtd, domain: Ref<'IommuDomain'>, nested: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number, taken: number): number {
  const kernel = vtd.kernel;
  IommuDomain.tagLock.acquire(kernel, domain);
  const tag = findTag(vtd, domain, nested, unit, pasid);
  const domainId = tag === NULL ? createTag(vtd, domain, nested, unit, pasid, taken) : CacheTag.domainId.peek(kernel, tag);
  if (tag !== NULL) CacheTag.users.write(kernel, tag, CacheTag.users.read(kernel, tag) + 1);
  IommuDomain.tagLock.release(kernel, domain);
  return domainId;
}

function removeUser(vtd: Vtd, domain: Ref<'IommuDomain'>, nested: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number): void {
  IommuDomain.tagLock.acquire(vtd.kernel, domain);
  const domainId = dropTag(vtd, domain, unit, pasid, nested);
  if (domainId !== 0) giveBackDomainId(vtd, unit, domainId);
  IommuDomain.tagLock.release(vtd.kernel, domain);
}

/**
 * One user less of a tag, the domain's own or the one for a domain nested on it; the domain id, if no tag of the unit has it any more, else 0: a
 * nested domain's id is that one's to give back. The caller holds `tagLock`.
 */
export function dropTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number, nested: Ref<'IommuDomain'> = NULL): number {
  const kernel = vtd.kernel;
  const tag = findTag(vtd, domain, nested, unit, pasid);
  const users = CacheTag.users.read(kernel, tag) - 1;
  CacheTag.users.write(kernel, tag, users);
  if (users > 0) return 0;
  const domainId = CacheTag.domainId.peek(kernel, tag);
  removeTag(vtd, domain, tag);
  return nested === NULL && domainIdOf(vtd, domain, unit) === 0 ? domainId : 0;
}

export function giveBackDomainId(vtd: Vtd, unit: VtdUnit, domainId: number): void {
  returnDomainId(vtd.kernel, unit.state, domainId);
  DomainIdReturned.emit(vtd.kernel, unit.number, domainId);
}

/**
 * Puts a function's device TLB on the list, behind its unit (`cache_tag_assign` with CACHE_TAG_DEVTLB), and on that of a nested domain's parent
 * (CACHE_TAG_NESTING_DEVTLB). The unit is there already. False without memory.
 */
export function assignDeviceTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pciFunction: Ref<'PciFunction'>, pasid: number = ridPasid): boolean {
  if (!addDeviceTag(vtd, domain, NULL, unit, pciFunction, pasid)) return false;
  if (!isNested(vtd.kernel, domain) || addDeviceTag(vtd, IommuDomain.parent.peek(vtd.kernel, domain), domain, unit, pciFunction, pasid)) return true;
  removeDeviceTag(vtd, domain, NULL, unit, pciFunction, pasid);
  return false;
}

/** Takes it off; nothing where it is on no list. */
export function unassignDeviceTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pciFunction: Ref<'PciFunction'>, pasid: number = ridPasid): void {
  if (isNested(vtd.kernel, domain)) removeDeviceTag(vtd, IommuDomain.parent.peek(vtd.kernel, domain), domain, unit, pciFunction, pasid);
  removeDeviceTag(vtd, domain, NULL, unit, pciFunction, pasid);
}

function addDeviceTag(vtd: Vtd, domain: Ref<'IommuDomain'>, nested: Ref<'IommuDomain'>, unit: VtdUnit, pciFunction: Ref<'PciFunction'>, pasid: number): boolean {
  const kernel = vtd.kernel;
  const tag = CacheTag.tryCreate(kernel);
  if (tag === NULL) return false;
  CacheTag.domain.poke(kernel, tag, domain);
  CacheTag.unit.poke(kernel, tag, unit.ref);
  CacheTag.function.poke(kernel, tag, pciFunction);
  CacheTag.nested.poke(kernel, tag, nested);
  CacheTag.pasid.poke(kernel, tag, pasid);
  IommuDomain.tagLock.acquire(kernel, domain);
  const before = findTag(vtd, domain, nested, unit, pasid);
  // A parent may have been left without it (a variant): the device is told all the same.
  if (before === NULL) CacheTag.next.write(kernel, tag, IommuDomain.firstTag.read(kernel, domain));
  else {
    CacheTag.domainId.poke(kernel, tag, CacheTag.domainId.peek(kernel, before));
    CacheTag.next.write(kernel, tag, CacheTag.next.read(kernel, before));
  }
  if (before === NULL) IommuDomain.firstTag.write(kernel, domain, tag);
  else CacheTag.next.write(kernel, before, tag);
  IommuDomain.tagLock.release(kernel, domain);
  return true;
}

function removeDeviceTag(vtd: Vtd, domain: Ref<'IommuDomain'>, nested: Ref<'IommuDomain'>, unit: VtdUnit, pciFunction: Ref<'PciFunction'>, pasid: number): void {
  IommuDomain.tagLock.acquire(vtd.kernel, domain);
  const tag = findTag(vtd, domain, nested, unit, pasid, pciFunction);
  if (tag !== NULL) removeTag(vtd, domain, tag);
  IommuDomain.tagLock.release(vtd.kernel, domain);
}

/** The tag of the unit, or of one of its functions, for a PASID; the domain's own, or the one that is there for a domain nested on it. */
function findTag(vtd: Vtd, domain: Ref<'IommuDomain'>, nested: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number, pciFunction: Ref<'PciFunction'> = NULL): Ref<'CacheTag'> {
  const kernel = vtd.kernel;
  let tag = IommuDomain.firstTag.read(kernel, domain);
  for (; tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    if (CacheTag.unit.peek(kernel, tag) !== unit.ref || CacheTag.function.peek(kernel, tag) !== pciFunction) continue;
    if (CacheTag.pasid.peek(kernel, tag) === pasid && CacheTag.nested.peek(kernel, tag) === nested) return tag;
  }
  return tag;
}

/** What the domain is called on the unit; 0 when it has no name there. The caller holds `tagLock`. */
export function domainIdOf(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit): number {
  const kernel = vtd.kernel;
  let tag = IommuDomain.firstTag.read(kernel, domain);
  while (tag !== NULL && (CacheTag.unit.peek(kernel, tag) !== unit.ref || CacheTag.nested.peek(kernel, tag) !== NULL)) tag = CacheTag.next.read(kernel, tag);
  return tag === NULL ? 0 : CacheTag.domainId.peek(kernel, tag);
}

/** A tag with one user; returns as `assignTag`. */
function createTag(vtd: Vtd, domain: Ref<'IommuDomain'>, nested: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number, taken: number): number {
  const kernel = vtd.kernel;
  const tag = CacheTag.tryCreate(kernel);
  if (tag === NULL) return -1;
  const known = nested === NULL ? domainIdOf(vtd, domain, unit) : taken;
  const domainId = known || taken || takeDomainId(kernel, unit.state, unit.domainIds);
  if (domainId === 0) {
    CacheTag.free(kernel, tag);
    return 0;
  }
  CacheTag.domain.poke(kernel, tag, domain);
  CacheTag.unit.poke(kernel, tag, unit.ref);
  CacheTag.nested.poke(kernel, tag, nested);
  CacheTag.domainId.poke(kernel, tag, domainId);
  CacheTag.pasid.poke(kernel, tag, pasid);
  CacheTag.next.write(kernel, tag, IommuDomain.firstTag.read(kernel, domain));
  IommuDomain.firstTag.write(kernel, domain, tag);
  CacheTag.users.write(kernel, tag, 1);
  return domainId;
}

function removeTag(vtd: Vtd, domain: Ref<'IommuDomain'>, tag: Ref<'CacheTag'>): void {
  const kernel = vtd.kernel;
  const next = CacheTag.next.read(kernel, tag);
  let before = IommuDomain.firstTag.read(kernel, domain);
  if (before === tag) IommuDomain.firstTag.write(kernel, domain, next);
  else {
    while (CacheTag.next.read(kernel, before) !== tag) before = CacheTag.next.read(kernel, before);
    CacheTag.next.write(kernel, before, next);
  }
  CacheTag.free(kernel, tag);
}
