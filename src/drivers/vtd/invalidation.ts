/**
 * The required sequences of invalidation (SEMANTICS d.2, Q1 to Q8), each a named operation. Whom they concern is in `cache-tag.ts`.
 */
import { NULL, type Ref } from '#hostmem/object';
import { highOfPage, lowOfPage, pageNumber } from '#hostmem/u64';
import { PciFunction } from '../../hardware/function.ts';
import { Bits } from '../../hardware/vtd/descriptors.ts';
import { CacheTag, IommuDomain } from '../domain.ts';
import { IommuDevice } from '../driver.ts';
import { FlushCalled, FlushReturned } from '../events.ts';
import { allPages, blockOrder } from '../page-block.ts';
import type { Batch } from './batch.ts';
import { domainIdOf } from './cache-tag.ts';
import { ridPasid } from './pasid-entry.ts';
import { identityDomainId } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/**
 * Q1, after leaves were cleared, and Q2 (`leafOnly` false), before removed tables are freed: IOTLB of the pages on every unit
 * that may cache the domain, and a wait each. Page-selective where one block of the unit's largest order holds the range,
 * of the whole domain otherwise (`cache_tag_flush_range`). First-stage translations are found by their PASID. What domains nested on this one have
 * cached is found by their ids, Q7: an address of the parent is none of theirs, and the unit drops it all.
 */
export function flushRange(vtd: Vtd, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void {
  const kernel = vtd.kernel;
  const last = pageNumber(iovaHigh, iovaLow) + pages - 1;
  const order = last >= allPages ? 52 : blockOrder(iovaHigh, iovaLow, highOfPage(last), lowOfPage(last));
  const root = IommuDomain.root.peek(kernel, domain);
  const told = pages < 2 ** 32 ? pages : 0;
  FlushCalled.emit(kernel, root, iovaHigh, iovaLow, told, leafOnly ? 1 : 0);
  IommuDomain.tagLock.acquire(kernel, domain);
  for (let tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    if (CacheTag.function.peek(kernel, tag) === NULL) vtd.operations.flushIotlb(vtd, domain, tag, iovaHigh, iovaLow, order, leafOnly);
    else if (CacheTag.nested.peek(kernel, tag) === NULL) vtd.operations.flushDeviceTlb(vtd, tag, iovaHigh, iovaLow, order);
    else vtd.operations.flushNestedDeviceTlb(vtd, tag, iovaHigh, iovaLow, order);
  }
  IommuDomain.tagLock.release(kernel, domain);
  FlushReturned.emit(kernel, root, iovaHigh, iovaLow, told, leafOnly ? 1 : 0);
}

/** Drops a block of pages, or what is larger than the unit can name with its whole domain, from the caches of one unit (`cache_tag_flush_iotlb`). */
export function flushIotlb(vtd: Vtd, domain: Ref<'IommuDomain'>, tag: Ref<'CacheTag'>, iovaHigh: number, iovaLow: number, order: number, leafOnly: boolean): void {
  const unit = vtd.unit(CacheTag.unit.peek(vtd.kernel, tag));
  const domainId = CacheTag.domainId.peek(vtd.kernel, tag);
  const batch = vtd.batch.clear();
  const isWhole = order > unit.largestOrder;
  if (vtd.isFirstStage(domain)) batch.pasidIotlb(domainId, CacheTag.pasid.peek(vtd.kernel, tag), iovaHigh, iovaLow, isWhole ? -1 : order, leafOnly);
  else if (isWhole) batch.iotlbOfDomain(domainId);
  else batch.iotlbPages(domainId, iovaHigh, iovaLow, order, leafOnly);
  vtd.operations.submit(vtd, unit, batch);
}

/** Drops a block of pages from the device TLB of a function (`cache_tag_flush_devtlb_psi`). After the IOTLB: it would be filled from there again. */
export function flushDeviceTlb(vtd: Vtd, tag: Ref<'CacheTag'>, iovaHigh: number, iovaLow: number, order: number): void {
  const unit = vtd.unit(CacheTag.unit.peek(vtd.kernel, tag));
  const sourceId = PciFunction.rid.peek(vtd.kernel, CacheTag.function.peek(vtd.kernel, tag));
  vtd.operations.submit(vtd, unit, vtd.batch.clear().deviceTlb(sourceId, iovaHigh, iovaLow, order, CacheTag.pasid.peek(vtd.kernel, tag)));
}

/** Q7: the device knows nothing of guest addresses, so that a change of the parent drops all that it has (CACHE_TAG_NESTING_DEVTLB). */
export function flushNestedDeviceTlb(vtd: Vtd, tag: Ref<'CacheTag'>, _gpaHigh: number, _gpaLow: number, _order: number): void {
  vtd.operations.flushDeviceTlb(vtd, tag, 0, 0, 52);
}

/** Drops all that a device has in its device TLB of requests without PASID, or with one, if it uses one (`devtlb_invalidation_with_pasid`, `__context_flush_dev_iotlb`). */
function addDeviceTlb(vtd: Vtd, device: Ref<'IommuDevice'>, batch: Batch, pasid: number = ridPasid): Batch {
  if (IommuDevice.atsEnabled.peek(vtd.kernel, device) === 0) return batch;
  return batch.deviceTlb(PciFunction.rid.peek(vtd.kernel, IommuDevice.function.peek(vtd.kernel, device)), 0, 0, 52, pasid);
}

/** Q6, after a context entry's present bit was cleared: context cache of the requester, IOTLB of the domain, device TLB, and a wait. */
export function flushContext(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, sourceId: number, domainId: number): void {
  vtd.operations.submit(vtd, unit, addDeviceTlb(vtd, device, vtd.batch.clear().contextCacheOfRequester(domainId, sourceId).iotlbOfDomain(domainId)));
}

/** Q3 and Q5, after a PASID entry's present bit was cleared: PASID cache, IOTLB (`byPasid`: first stage, pass-through), device TLB, and a wait. */
export function flushPasid(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, domainId: number, pasid: number, byPasid: boolean): void {
  const batch = vtd.batch.clear().pasidCache(domainId, pasid);
  if (byPasid) batch.pasidIotlb(domainId, pasid, 0, 0, -1, false);
  else batch.iotlbOfDomain(domainId);
  vtd.operations.submit(vtd, unit, addDeviceTlb(vtd, device, batch, pasid));
}

/** Q6 of scalable mode: the entry has no domain id, so that the caches behind it are flushed as a whole. */
export function flushScalableContext(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, sourceId: number): void {
  vtd.operations.submit(vtd, unit, addDeviceTlb(vtd, device, vtd.batch.clear().contextCacheOfRequester(0, sourceId).pasidCacheAll().iotlbAll()));
}

/**
 * Q8, the part of it that hardware has (`intel_iommu_drain_pasid_prq` behind its look at the queue, VT-d specification 7.10): a fence, behind which the device is asked to
 * drop what it has cached. What it had asked for is ahead of its answer, and when the wait (PD) is over it lies in the queue, or was refused there.
 */
export function drainPageRequests(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number): void {
  const domainId = numberOf(vtd, unit, IommuDevice.domain.peek(vtd.kernel, device));
  const batch = vtd.batch.clear().fence();
  if (pasid === ridPasid) batch.iotlbOfDomain(domainId);
  else batch.pasidIotlb(domainId, pasid, 0, 0, -1, false);
  const sourceId = PciFunction.rid.peek(vtd.kernel, IommuDevice.function.peek(vtd.kernel, device));
  vtd.operations.submit(vtd, unit, batch.deviceTlb(sourceId, 0, 0, 52, pasid), Bits.waitPageRequests);
}

/** What the requests without PASID go through is called on the unit. */
function numberOf(vtd: Vtd, unit: VtdUnit, domain: Ref<'IommuDomain'>): number {
  if (domain === NULL) return identityDomainId;
  IommuDomain.tagLock.acquire(vtd.kernel, domain);
  const known = domainIdOf(vtd, domain, unit);
  IommuDomain.tagLock.release(vtd.kernel, domain);
  return known;
}
