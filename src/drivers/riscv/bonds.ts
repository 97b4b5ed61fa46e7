/** Whose caches may hold a domain's translations (the kernel's `riscv_iommu_bond`, and device TLBs), and their invalidation. */
import { NULL, type Ref } from '#hostmem/object';
import { highOfPage, lowOfPage, pageNumber } from '#hostmem/u64';
import { PciFunction } from '../../hardware/function.ts';
import { CacheTag, IommuDomain } from '../domain.ts';
import { IommuDevice } from '../driver.ts';
import { FlushCalled, FlushReturned } from '../events.ts';
import { allPages, blockOrder } from '../page-block.ts';
import { addDeviceTlb, addUnitUser, isLastUser, removeDeviceTlb, removeUnitUser } from '../unit-tags.ts';
import type { Riscv } from './riscv.ts';

/** Per-page invalidations up to here, the whole address space beyond (`RISCV_IOMMU_IOTLB_INVAL_LIMIT`: 2 MiB). */
const mostPages = 512;

/** Puts the unit of a device, and the device's own cache if it uses one, on the domain's list. False without memory. */
export function link(riscv: Riscv, domain: Ref<'IommuDomain'>, device: Ref<'IommuDevice'>): boolean {
  const { kernel } = riscv;
  const unit = IommuDevice.unit.peek(kernel, device);
  IommuDomain.tagLock.acquire(kernel, domain);
  const added = addUnitUser(kernel, domain, unit, IommuDomain.driverData.peek(kernel, domain));
  const whole = added && (IommuDevice.atsEnabled.peek(kernel, device) === 0 || addDeviceTlb(kernel, domain, unit, IommuDevice.function.peek(kernel, device)));
  if (added && !whole) removeUnitUser(kernel, domain, unit);
  IommuDomain.tagLock.release(kernel, domain);
  return whole;
}

/** One user less. Before the last one leaves the unit forgets the address space, and then the device, if it keeps any, what it kept of it. */
export function unlink(riscv: Riscv, domain: Ref<'IommuDomain'>, device: Ref<'IommuDevice'>): void {
  const { kernel } = riscv;
  const unit = IommuDevice.unit.peek(kernel, device);
  IommuDomain.tagLock.acquire(kernel, domain);
  if (isLastUser(kernel, domain, unit)) riscv.unit(unit).submitter.invalidateSpace(IommuDomain.driverData.peek(kernel, domain)).submit();
  riscv.operations.forgetKept(riscv, device);
  removeDeviceTlb(kernel, domain, unit, IommuDevice.function.peek(kernel, device));
  removeUnitUser(kernel, domain, unit);
  IommuDomain.tagLock.release(kernel, domain);
}

/** On return a device keeps no translation; nothing where it uses no ATS. */
export function forgetKept(riscv: Riscv, device: Ref<'IommuDevice'>): void {
  const { kernel } = riscv;
  if (IommuDevice.atsEnabled.peek(kernel, device) === 0) return;
  const rid = PciFunction.rid.peek(kernel, IommuDevice.function.peek(kernel, device));
  riscv.unit(IommuDevice.unit.peek(kernel, device)).submitter.invalidateDeviceTlb(rid, 0, 0, 52).submit();
}

/** A device that is attached begins to keep translations, or has ceased to. False without memory. */
export function linkDevice({ kernel }: Riscv, domain: Ref<'IommuDomain'>, device: Ref<'IommuDevice'>): boolean {
  IommuDomain.tagLock.acquire(kernel, domain);
  const added = addDeviceTlb(kernel, domain, IommuDevice.unit.peek(kernel, device), IommuDevice.function.peek(kernel, device));
  IommuDomain.tagLock.release(kernel, domain);
  return added;
}
export function unlinkDevice({ kernel }: Riscv, domain: Ref<'IommuDomain'>, device: Ref<'IommuDevice'>): void {
  IommuDomain.tagLock.acquire(kernel, domain);
  removeDeviceTlb(kernel, domain, IommuDevice.unit.peek(kernel, device), IommuDevice.function.peek(kernel, device));
  IommuDomain.tagLock.release(kernel, domain);
}

/** After leaves were cleared: everybody on the list forgets the pages, and DMA that may have used them has ended. */
export function flushRange(riscv: Riscv, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): void {
  const { kernel } = riscv;
  const pscid = IommuDomain.driverData.peek(kernel, domain);
  const root = IommuDomain.root.peek(kernel, domain);
  const told = pages < 2 ** 32 ? pages : 0;
  FlushCalled.emit(kernel, root, iovaHigh, iovaLow, told);
  IommuDomain.tagLock.acquire(kernel, domain);
  for (let tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    if (CacheTag.function.peek(kernel, tag) === NULL) riscv.operations.flushIotlb(riscv, tag, pscid, iovaHigh, iovaLow, pages);
    else riscv.operations.flushDeviceTlb(riscv, tag, iovaHigh, iovaLow, pages);
  }
  IommuDomain.tagLock.release(kernel, domain);
  FlushReturned.emit(kernel, root, iovaHigh, iovaLow, told);
}

/** Drops pages, or where they are many the address space, from the cache of a unit. */
export function flushIotlb(riscv: Riscv, tag: Ref<'CacheTag'>, pscid: number, iovaHigh: number, iovaLow: number, pages: number): void {
  const { submitter } = riscv.unit(CacheTag.unit.peek(riscv.kernel, tag));
  const first = pageNumber(iovaHigh, iovaLow);
  if (pages > mostPages) submitter.invalidateSpace(pscid);
  for (let page = first; pages <= mostPages && page < first + pages; page++) {
    if (submitter.isFull) submitter.submit();
    submitter.invalidatePage(pscid, highOfPage(page), lowOfPage(page));
  }
  submitter.submit();
}

/**
 * Drops the smallest block that holds the pages from the device TLB of a function. In a batch of its own, behind the fence of the IOTLB's: the unit may carry
 * out what it has fetched in any order, and the device would be filled from the IOTLB again.
 */
export function flushDeviceTlb(riscv: Riscv, tag: Ref<'CacheTag'>, iovaHigh: number, iovaLow: number, pages: number): void {
  const { kernel } = riscv;
  const last = pageNumber(iovaHigh, iovaLow) + pages - 1;
  const order = last >= allPages ? 52 : blockOrder(iovaHigh, iovaLow, highOfPage(last), lowOfPage(last));
  const rid = PciFunction.rid.peek(kernel, CacheTag.function.peek(kernel, tag));
  riscv.unit(CacheTag.unit.peek(kernel, tag)).submitter.invalidateDeviceTlb(rid, iovaHigh, iovaLow, order).submit();
}
