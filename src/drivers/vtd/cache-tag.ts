/**
 * Cache tags: which caches may hold a domain's translations (the kernel's `cache.c`). A tag joins before the first entry that points to the
 * domain is installed, and leaves after the last one was removed and flushed (INVARIANTS C1).
 */
import { NULL, type Ref } from '#hostmem/object';
import { CacheTag, IommuDomain } from '../domain.ts';
import { DomainIdReturned } from '../events.ts';
import { ridPasid } from './pasid-entry.ts';
import { returnDomainId, takeDomainId } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/**
 * Puts the unit on the domain's list, or counts one more user of its tag; `taken` is a domain id that the caller has taken for it. Returns the
 * domain id, 0 when none is left, -1 without memory.
 */
export function assignTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number = ridPasid, taken: number = 0): number {
  const kernel = vtd.kernel;
  IommuDomain.tagLock.acquire(kernel, domain);
  const tag = findTag(vtd, domain, unit, pasid);
  const domainId = tag === NULL ? createTag(vtd, domain, unit, pasid, taken) : CacheTag.domainId.peek(kernel, tag);
  if (tag !== NULL) CacheTag.users.write(kernel, tag, CacheTag.users.read(kernel, tag) + 1);
  IommuDomain.tagLock.release(kernel, domain);
  return domainId;
}

/** One user less; the last one takes the tag off the list, and with the unit's last tag goes the domain id. */
export function unassignTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number = ridPasid): void {
  IommuDomain.tagLock.acquire(vtd.kernel, domain);
  const domainId = dropTag(vtd, domain, unit, pasid);
  if (domainId !== 0) giveBackDomainId(vtd, unit, domainId);
  IommuDomain.tagLock.release(vtd.kernel, domain);
}

/** One user less of a tag; the domain id, if no tag of the unit has it any more, else 0. The caller holds `tagLock`. */
export function dropTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number): number {
  const kernel = vtd.kernel;
  const tag = findTag(vtd, domain, unit, pasid);
  const users = CacheTag.users.read(kernel, tag) - 1;
  CacheTag.users.write(kernel, tag, users);
  if (users > 0) return 0;
  const domainId = CacheTag.domainId.peek(kernel, tag);
  removeTag(vtd, domain, tag);
  return domainIdOf(vtd, domain, unit) === 0 ? domainId : 0;
}

export function giveBackDomainId(vtd: Vtd, unit: VtdUnit, domainId: number): void {
  returnDomainId(vtd.kernel, unit.state, domainId);
  DomainIdReturned.emit(vtd.kernel, unit.number, domainId);
}

/** Puts a function's device TLB on the list, behind its unit (`cache_tag_assign` with CACHE_TAG_DEVTLB). The unit is there already. False without memory. */
export function assignDeviceTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pciFunction: Ref<'PciFunction'>, pasid: number = ridPasid): boolean {
  const kernel = vtd.kernel;
  const tag = CacheTag.tryCreate(kernel);
  if (tag === NULL) return false;
  CacheTag.domain.poke(kernel, tag, domain);
  CacheTag.unit.poke(kernel, tag, unit.ref);
  CacheTag.function.poke(kernel, tag, pciFunction);
  CacheTag.pasid.poke(kernel, tag, pasid);
  IommuDomain.tagLock.acquire(kernel, domain);
  const before = findTag(vtd, domain, unit, pasid);
  CacheTag.domainId.poke(kernel, tag, CacheTag.domainId.peek(kernel, before));
  CacheTag.next.write(kernel, tag, CacheTag.next.read(kernel, before));
  CacheTag.next.write(kernel, before, tag);
  IommuDomain.tagLock.release(kernel, domain);
  return true;
}

/** Takes it off; nothing where it is on no list. */
export function unassignDeviceTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pciFunction: Ref<'PciFunction'>, pasid: number = ridPasid): void {
  IommuDomain.tagLock.acquire(vtd.kernel, domain);
  const tag = findTag(vtd, domain, unit, pasid, pciFunction);
  if (tag !== NULL) removeTag(vtd, domain, tag);
  IommuDomain.tagLock.release(vtd.kernel, domain);
}

/** The tag of the unit, or of one of its functions, for a PASID. */
function findTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number, pciFunction: Ref<'PciFunction'> = NULL): Ref<'CacheTag'> {
  const kernel = vtd.kernel;
  let tag = IommuDomain.firstTag.read(kernel, domain);
  for (; tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    if (CacheTag.unit.peek(kernel, tag) !== unit.ref || CacheTag.function.peek(kernel, tag) !== pciFunction) continue;
    if (CacheTag.pasid.peek(kernel, tag) === pasid) return tag;
  }
  return tag;
}

/** What the domain is called on the unit; 0 when it has no name there. The caller holds `tagLock`. */
export function domainIdOf(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit): number {
  const kernel = vtd.kernel;
  let tag = IommuDomain.firstTag.read(kernel, domain);
  while (tag !== NULL && CacheTag.unit.peek(kernel, tag) !== unit.ref) tag = CacheTag.next.read(kernel, tag);
  return tag === NULL ? 0 : CacheTag.domainId.peek(kernel, tag);
}

/** A tag with one user; returns as `assignTag`. */
function createTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, pasid: number, taken: number): number {
  const kernel = vtd.kernel;
  const tag = CacheTag.tryCreate(kernel);
  if (tag === NULL) return -1;
  const domainId = domainIdOf(vtd, domain, unit) || taken || takeDomainId(kernel, unit.state, unit.domainIds);
  if (domainId === 0) {
    CacheTag.free(kernel, tag);
    return 0;
  }
  CacheTag.domain.poke(kernel, tag, domain);
  CacheTag.unit.poke(kernel, tag, unit.ref);
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
