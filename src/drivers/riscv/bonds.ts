/** Which units may cache a domain's translations (the kernel's `riscv_iommu_bond`), and their invalidation. */
import { NULL, type Ref } from '#hostmem/object';
import { highOfPage, lowOfPage, pageNumber } from '#hostmem/u64';
import { CacheTag, IommuDomain } from '../domain.ts';
import { FlushCalled, FlushReturned } from '../events.ts';
import { addUnitUser, isLastUser, removeUnitUser } from '../unit-tags.ts';
import type { Riscv, RiscvMember } from './riscv.ts';

/** Per-page invalidations up to here, the whole address space beyond (`RISCV_IOMMU_IOTLB_INVAL_LIMIT`: 2 MiB). */
const mostPages = 512;

/** Puts the unit on the domain's list. False without memory. */
export function link({ kernel }: Riscv, domain: Ref<'IommuDomain'>, unit: RiscvMember): boolean {
  IommuDomain.tagLock.acquire(kernel, domain);
  const added = addUnitUser(kernel, domain, unit.ref, IommuDomain.driverData.peek(kernel, domain));
  IommuDomain.tagLock.release(kernel, domain);
  return added;
}

/** One user less; before the last one leaves the unit forgets the address space. */
export function unlink({ kernel }: Riscv, domain: Ref<'IommuDomain'>, unit: RiscvMember): void {
  IommuDomain.tagLock.acquire(kernel, domain);
  if (isLastUser(kernel, domain, unit.ref)) unit.submitter.invalidateSpace(IommuDomain.driverData.peek(kernel, domain)).submit();
  removeUnitUser(kernel, domain, unit.ref);
  IommuDomain.tagLock.release(kernel, domain);
}

/** After leaves were cleared: every unit on the list forgets the pages, and DMA that may have used them has ended. */
export function flushRange(riscv: Riscv, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): void {
  const { kernel } = riscv;
  const pscid = IommuDomain.driverData.peek(kernel, domain);
  const root = IommuDomain.root.peek(kernel, domain);
  const first = pageNumber(iovaHigh, iovaLow);
  const told = pages < 2 ** 32 ? pages : 0;
  FlushCalled.emit(kernel, root, iovaHigh, iovaLow, told);
  IommuDomain.tagLock.acquire(kernel, domain);
  for (let tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    const { submitter } = riscv.unit(CacheTag.unit.peek(kernel, tag));
    if (pages > mostPages) submitter.invalidateSpace(pscid);
    for (let page = first; pages <= mostPages && page < first + pages; page++) {
      if (submitter.isFull) submitter.submit();
      submitter.invalidatePage(pscid, highOfPage(page), lowOfPage(page));
    }
    submitter.submit();
  }
  IommuDomain.tagLock.release(kernel, domain);
  FlushReturned.emit(kernel, root, iovaHigh, iovaLow, told);
}
