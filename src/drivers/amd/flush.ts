/** Invalidation of what units cache of a domain (the kernel's `amd_iommu_domain_flush_pages` and relatives): commands to every unit, then their waits. */
import { NULL, type Ref } from '#hostmem/object';
import { highOfPage, lowOfPage, pageNumber } from '#hostmem/u64';
import * as commands from '../../hardware/amd/commands.ts';
import { CacheTag, IommuDomain } from '../domain.ts';
import { FlushCalled, FlushReturned } from '../events.ts';
import type { Amd } from './amd.ts';
import { amdDomainOf } from './top.ts';
import { AmdDomain } from './unit-state.ts';

/** An address has 52 bits of page number; a range that differs in the highest of them is everything (`build_inv_address`). */
const everything = 52;

/** After leaves were cleared: no cache has them, and DMA that may have used them has ended. */
export function flushRange(amd: Amd, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): void {
  const { kernel } = amd;
  const root = IommuDomain.root.peek(kernel, domain);
  const told = pages < 2 ** 32 ? pages : 0;
  FlushCalled.emit(kernel, root, iovaHigh, iovaLow, told);
  IommuDomain.tagLock.acquire(kernel, domain);
  flush(amd, domain, iovaHigh, iovaLow, orderOf(pageNumber(iovaHigh, iovaLow), pages));
  IommuDomain.tagLock.release(kernel, domain);
  FlushReturned.emit(kernel, root, iovaHigh, iovaLow, told);
}

/** All of a domain. The caller holds `tagLock`. */
export function flushDomain(amd: Amd, domain: Ref<'IommuDomain'>): void {
  flush(amd, domain, 0, 0, everything);
}

function flush(amd: Amd, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, order: number): void {
  const { kernel, operations } = amd;
  const domainId = AmdDomain.domainId.peek(kernel, amdDomainOf(amd, domain));
  let tag = IommuDomain.firstTag.read(kernel, domain);
  for (; tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    const unit = amd.unit(CacheTag.unit.peek(kernel, tag));
    operations.queueCommand(amd, unit, commands.invalidatePages(domainId, iovaHigh, iovaLow, order));
  }
  for (tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag))
    operations.completionWait(amd, amd.unit(CacheTag.unit.peek(kernel, tag)));
}

/** The order of the smallest aligned block that holds the pages. */
function orderOf(first: number, pages: number): number {
  const last = first + pages - 1;
  if (last >= 2 ** everything) return everything;
  const high = highOfPage(first) ^ highOfPage(last);
  if (high !== 0) return 52 - Math.clz32(high);
  return 32 - Math.clz32((lowOfPage(first) ^ lowOfPage(last)) >>> 12);
}
