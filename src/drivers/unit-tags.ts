/**
 * Whose caches may hold a domain's translations, where a domain has one number everywhere: its cache tags, one for each unit, and behind that one for each
 * device TLB (INVARIANTS C1; VT-d, with a number for each unit and for each PASID, has its own).
 */
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { CacheTag, IommuDomain } from './domain.ts';

/** Puts the unit on the domain's list, or counts one more user there. False without memory. The caller holds `tagLock`. */
export function addUnitUser(kernel: Memory, domain: Ref<'IommuDomain'>, unit: Ref<'IommuUnit'>, domainId: number): boolean {
  let tag = findTag(kernel, domain, unit);
  if (tag === NULL) {
    tag = CacheTag.tryCreate(kernel);
    if (tag === NULL) return false;
    CacheTag.domain.poke(kernel, tag, domain);
    CacheTag.unit.poke(kernel, tag, unit);
    CacheTag.domainId.poke(kernel, tag, domainId);
    CacheTag.next.write(kernel, tag, IommuDomain.firstTag.read(kernel, domain));
    IommuDomain.firstTag.write(kernel, domain, tag);
  }
  CacheTag.users.write(kernel, tag, CacheTag.users.read(kernel, tag) + 1);
  return true;
}

/** Whether the unit has one user left, so that it has to forget the domain before that one leaves. The caller holds `tagLock`. */
export const isLastUser = (kernel: Memory, domain: Ref<'IommuDomain'>, unit: Ref<'IommuUnit'>): boolean =>
  CacheTag.users.read(kernel, findTag(kernel, domain, unit)) === 1;

/** One user less; the last one takes the unit off the list. The caller holds `tagLock`. */
export function removeUnitUser(kernel: Memory, domain: Ref<'IommuDomain'>, unit: Ref<'IommuUnit'>): void {
  const tag = findTag(kernel, domain, unit);
  const users = CacheTag.users.read(kernel, tag) - 1;
  CacheTag.users.write(kernel, tag, users);
  if (users > 0) return;
  remove(kernel, domain, tag);
}

/** Puts a function's device TLB on the list, behind its unit, which is there. False without memory. The caller holds `tagLock`. */
export function addDeviceTlb(kernel: Memory, domain: Ref<'IommuDomain'>, unit: Ref<'IommuUnit'>, pciFunction: Ref<'PciFunction'>): boolean {
  const tag = CacheTag.tryCreate(kernel);
  if (tag === NULL) return false;
  const before = findTag(kernel, domain, unit);
  CacheTag.domain.poke(kernel, tag, domain);
  CacheTag.unit.poke(kernel, tag, unit);
  CacheTag.function.poke(kernel, tag, pciFunction);
  CacheTag.domainId.poke(kernel, tag, CacheTag.domainId.peek(kernel, before));
  CacheTag.next.write(kernel, tag, CacheTag.next.read(kernel, before));
  CacheTag.next.write(kernel, before, tag);
  return true;
}

/** Takes it off; nothing where it is not on the list. The caller holds `tagLock`. */
export function removeDeviceTlb(kernel: Memory, domain: Ref<'IommuDomain'>, unit: Ref<'IommuUnit'>, pciFunction: Ref<'PciFunction'>): void {
  const tag = findTag(kernel, domain, unit, pciFunction);
  if (tag !== NULL) remove(kernel, domain, tag);
}

function remove(kernel: Memory, domain: Ref<'IommuDomain'>, tag: Ref<'CacheTag'>): void {
  const next = CacheTag.next.read(kernel, tag);
  let before = IommuDomain.firstTag.read(kernel, domain);
  if (before === tag) IommuDomain.firstTag.write(kernel, domain, next);
  else {
    while (CacheTag.next.read(kernel, before) !== tag) before = CacheTag.next.read(kernel, before);
    CacheTag.next.write(kernel, before, next);
  }
  CacheTag.free(kernel, tag);
}

/** The tag of the unit, or of a function behind it. */
function findTag(kernel: Memory, domain: Ref<'IommuDomain'>, unit: Ref<'IommuUnit'>, pciFunction: Ref<'PciFunction'> = NULL): Ref<'CacheTag'> {
  let tag = IommuDomain.firstTag.read(kernel, domain);
  while (tag !== NULL && (CacheTag.unit.peek(kernel, tag) !== unit || CacheTag.function.peek(kernel, tag) !== pciFunction)) tag = CacheTag.next.read(kernel, tag);
  return tag;
}
