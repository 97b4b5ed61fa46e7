/**
 * The required sequences of invalidation (SEMANTICS d.2, Q1, Q2, Q6), and the cache tags that say whom they concern.
 */
import { NULL, type Ref } from '#hostmem/object';
import { CacheTag, IommuDomain } from '../domain.ts';
import { ridPasid } from './pasid-entry.ts';
import { returnDomainId, takeDomainId } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** Pages per step of an IOVA's high word. */
const pagesPerHigh = 2 ** 20;

/** The order of the smallest aligned block of pages that holds `[first, last]` (`calculate_psi_aligned_address`); up to 52. */
export function blockOrder(firstHigh: number, firstLow: number, lastHigh: number, lastLow: number): number {
  const high = firstHigh ^ lastHigh;
  return high === 0 ? 32 - Math.clz32((firstLow ^ lastLow) >>> 12) : 52 - Math.clz32(high);
}

/**
 * Q1, after leaves were cleared, and Q2 (`leafOnly` false), before removed tables are freed: IOTLB of the pages on every unit
 * that may cache the domain, and a wait each. Page-selective where one block of the unit's largest order holds the range,
 * of the whole domain otherwise (`cache_tag_flush_range`). First-stage translations are found by their PASID.
 */
export function flushRange(vtd: Vtd, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void {
  const kernel = vtd.kernel;
  const last = (iovaHigh >>> 0) * pagesPerHigh + (iovaLow >>> 12) + pages - 1;
  const order = pages > pagesPerHigh * pagesPerHigh ? 52 : blockOrder(iovaHigh, iovaLow, Math.floor(last / pagesPerHigh) | 0, (last % pagesPerHigh) << 12);
  const isFirstStage = vtd.isFirstStage(domain);
  IommuDomain.tagLock.acquire(kernel, domain);
  for (let tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    const unit = vtd.unit(CacheTag.unit.peek(kernel, tag));
    const domainId = CacheTag.domainId.peek(kernel, tag);
    const batch = vtd.batch.clear();
    const isWhole = order > unit.largestOrder;
    if (isFirstStage) batch.pasidIotlb(domainId, ridPasid, iovaHigh, iovaLow, isWhole ? -1 : order, leafOnly);
    else if (isWhole) batch.iotlbOfDomain(domainId);
    else batch.iotlbPages(domainId, iovaHigh, iovaLow, order, leafOnly);
    vtd.operations.submit(vtd, unit, batch);
  }
  IommuDomain.tagLock.release(kernel, domain);
}

/** Q6, after a context entry's present bit was cleared: context cache of the requester, then IOTLB of the domain, and a wait. */
export function flushContext(vtd: Vtd, unit: VtdUnit, sourceId: number, domainId: number): void {
  vtd.operations.submit(vtd, unit, vtd.batch.clear().contextCacheOfRequester(domainId, sourceId).iotlbOfDomain(domainId));
}

/** Q3 and Q5, after a PASID entry's present bit was cleared: PASID cache, then IOTLB (`byPasid`: first stage, pass-through), and a wait. */
export function flushPasid(vtd: Vtd, unit: VtdUnit, domainId: number, pasid: number, byPasid: boolean): void {
  const batch = vtd.batch.clear().pasidCache(domainId, pasid);
  vtd.operations.submit(vtd, unit, byPasid ? batch.pasidIotlb(domainId, pasid, 0, 0, -1, false) : batch.iotlbOfDomain(domainId));
}

/** Q6 of scalable mode: the entry has no domain id, so that the caches behind it are flushed as a whole. */
export function flushScalableContext(vtd: Vtd, unit: VtdUnit, sourceId: number): void {
  vtd.operations.submit(vtd, unit, vtd.batch.clear().contextCacheOfRequester(0, sourceId).pasidCacheAll().iotlbAll());
}

/** Puts the unit on the domain's list, or counts one more user of its tag. Returns the domain id, 0 when none is left, -1 without memory. */
export function assignTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit): number {
  const kernel = vtd.kernel;
  IommuDomain.tagLock.acquire(kernel, domain);
  const tag = findTag(vtd, domain, unit);
  const domainId = tag === NULL ? createTag(vtd, domain, unit) : CacheTag.domainId.peek(kernel, tag);
  if (tag !== NULL) CacheTag.users.write(kernel, tag, CacheTag.users.read(kernel, tag) + 1);
  IommuDomain.tagLock.release(kernel, domain);
  return domainId;
}

/** One user less; the last one takes the unit off the list and gives the domain id back. */
export function unassignTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit): void {
  const kernel = vtd.kernel;
  IommuDomain.tagLock.acquire(kernel, domain);
  const tag = findTag(vtd, domain, unit);
  const users = CacheTag.users.read(kernel, tag) - 1;
  CacheTag.users.write(kernel, tag, users);
  if (users === 0) removeTag(vtd, domain, unit, tag);
  IommuDomain.tagLock.release(kernel, domain);
}

function findTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit): Ref<'CacheTag'> {
  const kernel = vtd.kernel;
  let tag = IommuDomain.firstTag.read(kernel, domain);
  while (tag !== NULL && CacheTag.unit.peek(kernel, tag) !== unit.ref) tag = CacheTag.next.read(kernel, tag);
  return tag;
}

/** A tag with one user; returns as `assignTag`. */
function createTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit): number {
  const kernel = vtd.kernel;
  const tag = CacheTag.tryCreate(kernel);
  if (tag === NULL) return -1;
  const domainId = takeDomainId(kernel, unit.state, unit.domainIds);
  if (domainId === 0) {
    CacheTag.free(kernel, tag);
    return 0;
  }
  CacheTag.domain.poke(kernel, tag, domain);
  CacheTag.unit.poke(kernel, tag, unit.ref);
  CacheTag.domainId.poke(kernel, tag, domainId);
  CacheTag.next.write(kernel, tag, IommuDomain.firstTag.read(kernel, domain));
  IommuDomain.firstTag.write(kernel, domain, tag);
  CacheTag.users.write(kernel, tag, 1);
  return domainId;
}

function removeTag(vtd: Vtd, domain: Ref<'IommuDomain'>, unit: VtdUnit, tag: Ref<'CacheTag'>): void {
  const kernel = vtd.kernel;
  const next = CacheTag.next.read(kernel, tag);
  let before = IommuDomain.firstTag.read(kernel, domain);
  if (before === tag) IommuDomain.firstTag.write(kernel, domain, next);
  else {
    while (CacheTag.next.read(kernel, before) !== tag) before = CacheTag.next.read(kernel, before);
    CacheTag.next.write(kernel, before, next);
  }
  returnDomainId(kernel, unit.state, CacheTag.domainId.peek(kernel, tag));
  CacheTag.free(kernel, tag);
}
