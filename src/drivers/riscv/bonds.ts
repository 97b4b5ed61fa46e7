/** Which units may cache a domain's translations (the kernel's `riscv_iommu_bond`): the domain's cache tags, one a unit. */
import { NULL, type Ref } from '#hostmem/object';
import { CacheTag, IommuDomain } from '../domain.ts';
import type { Riscv, RiscvMember } from './riscv.ts';

/** Per-page invalidations up to here, the whole address space beyond (`RISCV_IOMMU_IOTLB_INVAL_LIMIT`: 2 MiB). */
const mostPages = 512;
const pagesPerHigh = 2 ** 20;

/** Puts the unit on the domain's list, or counts one more user there. False without memory. */
export function link({ kernel }: Riscv, domain: Ref<'IommuDomain'>, unit: RiscvMember): boolean {
  IommuDomain.tagLock.acquire(kernel, domain);
  let tag = IommuDomain.firstTag.read(kernel, domain);
  while (tag !== NULL && CacheTag.unit.peek(kernel, tag) !== unit.ref) tag = CacheTag.next.read(kernel, tag);
  if (tag === NULL) {
    tag = CacheTag.tryCreate(kernel);
    if (tag !== NULL) {
      CacheTag.domain.poke(kernel, tag, domain);
      CacheTag.unit.poke(kernel, tag, unit.ref);
      CacheTag.domainId.poke(kernel, tag, IommuDomain.driverData.peek(kernel, domain));
      CacheTag.next.write(kernel, tag, IommuDomain.firstTag.read(kernel, domain));
      IommuDomain.firstTag.write(kernel, domain, tag);
    }
  }
  if (tag !== NULL) CacheTag.users.write(kernel, tag, CacheTag.users.read(kernel, tag) + 1);
  IommuDomain.tagLock.release(kernel, domain);
  return tag !== NULL;
}

/** One user less; the last one takes the unit off the list, and the unit forgets the address space. */
export function unlink({ kernel }: Riscv, domain: Ref<'IommuDomain'>, unit: RiscvMember): void {
  IommuDomain.tagLock.acquire(kernel, domain);
  let before: Ref<'CacheTag'> = NULL;
  let tag = IommuDomain.firstTag.read(kernel, domain);
  while (CacheTag.unit.peek(kernel, tag) !== unit.ref) {
    before = tag;
    tag = CacheTag.next.read(kernel, tag);
  }
  const users = CacheTag.users.read(kernel, tag) - 1;
  CacheTag.users.write(kernel, tag, users);
  const isLast = users === 0;
  if (isLast) {
    const next = CacheTag.next.read(kernel, tag);
    if (before === NULL) IommuDomain.firstTag.write(kernel, domain, next);
    else CacheTag.next.write(kernel, before, next);
    CacheTag.free(kernel, tag);
  }
  IommuDomain.tagLock.release(kernel, domain);
  if (isLast) unit.ring.invalidateSpace(IommuDomain.driverData.peek(kernel, domain)).submit();
}

/** After leaves were cleared: every unit on the list forgets the pages, and DMA that may have used them has ended. */
export function flushRange(riscv: Riscv, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): void {
  const { kernel } = riscv;
  const pscid = IommuDomain.driverData.peek(kernel, domain);
  IommuDomain.tagLock.acquire(kernel, domain);
  for (let tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    const { ring } = riscv.unit(CacheTag.unit.peek(kernel, tag));
    if (pages > mostPages) ring.invalidateSpace(pscid);
    else {
      for (let page = 0; page < pages; page++) {
        if (ring.isFull) ring.submit();
        const number = (iovaHigh >>> 0) * pagesPerHigh + (iovaLow >>> 12) + page;
        ring.invalidatePage(pscid, Math.floor(number / pagesPerHigh) | 0, number << 12);
      }
    }
    ring.submit();
  }
  IommuDomain.tagLock.release(kernel, domain);
}
