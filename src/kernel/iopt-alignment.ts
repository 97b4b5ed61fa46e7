/**
 * What every mapping of an IOAS is a multiple of (`iopt_calculate_iova_alignment`), and the switch that makes it a whole page.
 */
import { NULL, type Ref } from '#hostmem/object';
import { IommuDomain } from '../drivers/domain.ts';
import { alignmentOfAccesses } from './access.ts';
import { fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { Area, areaEnd, areaIova, firstArea, nextArea } from './iopt-area.ts';
import { IoptDomain } from './iopt-domains.ts';
import type { Kernel } from './kernel.ts';
import { PAGE } from './u64.ts';

/** What the domains, the accesses and the switch for large pages ask of every mapping, in bytes (`iopt_calculate_iova_alignment`). Under `domainsRwsem`. */
export function wantedAlignment(kernel: Kernel, ioas: Ref<'Ioas'>): number {
  const memory = kernel.memory;
  let alignment = Ioas.largePagesDisabled.read(memory, ioas) === 0 ? alignmentOfAccesses(kernel, ioas) : Number(PAGE);
  let at: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  for (; at !== NULL; at = IoptDomain.next.peek(memory, at)) {
    alignment = Math.max(alignment, pageBytesOf(kernel, IoptDomain.domain.peek(memory, at)));
  }
  return alignment;
}

/** Whether every mapping fits the alignment (`iopt_check_iova_alignment`). EINVAL, EADDRINUSE. Under `iovaRwsem`. */
export function checkAlignment(kernel: Kernel, ioas: Ref<'Ioas'>, bytes: number): void {
  const memory = kernel.memory;
  if (bytes > Number(PAGE)) fail('EINVAL', `the domain's smallest page has ${bytes} bytes`);
  if (bytes === Ioas.alignment.read(memory, ioas)) return;
  const alignment = BigInt(bytes);
  for (let node = firstArea(kernel, ioas); node !== NULL; node = nextArea(kernel, ioas, node)) {
    const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
    const misaligned = areaIova(kernel, area) % alignment !== 0n || (areaEnd(kernel, area) + 1n) % alignment !== 0n;
    if (misaligned || Area.pageOffset.peek(memory, area) % bytes !== 0) fail('EADDRINUSE', `a mapping is not aligned to ${bytes}`);
  }
}

/** From now on only leaves of 4 KiB (`iopt_disable_large_pages`). EINVAL when domains hold mappings, EADDRINUSE for a mapping that is not aligned. */
export function disableLargePages(kernel: Kernel, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  lockAll(kernel, ioas);
  try {
    if (Ioas.largePagesDisabled.read(memory, ioas) !== 0) return;
    const hasAreas = Ioas.areas.first(memory, ioas, 0, 0, -1, -1) !== NULL;
    if (hasAreas && Ioas.domains.read(memory, ioas) !== NULL) fail('EINVAL', 'domains hold mappings, perhaps in large pages');
    checkAlignment(kernel, ioas, 4096);
    Ioas.largePagesDisabled.write(memory, ioas, 1);
    Ioas.alignment.write(memory, ioas, wantedAlignment(kernel, ioas));
  } finally {
    unlockAll(kernel, ioas);
  }
}

/** `iopt_enable_large_pages`: what is mapped stays as it is. */
export function enableLargePages(kernel: Kernel, ioas: Ref<'Ioas'>): void {
  lockAll(kernel, ioas);
  Ioas.largePagesDisabled.write(kernel.memory, ioas, 0);
  Ioas.alignment.write(kernel.memory, ioas, wantedAlignment(kernel, ioas));
  unlockAll(kernel, ioas);
}

/** The sizes of page that all domains have, none below 4 KiB (`iommufd_get_pagesizes`). */
export function pageSizes(kernel: Kernel, ioas: Ref<'Ioas'>): bigint {
  const memory = kernel.memory;
  let sizes = (1n << 64n) - 1n;
  Ioas.domainsRwsem.acquireRead(memory, ioas);
  let at: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  for (; at !== NULL; at = IoptDomain.next.peek(memory, at)) sizes &= IommuDomain.pageSizes.peekBig(memory, IoptDomain.domain.peek(memory, at));
  Ioas.domainsRwsem.releaseRead(memory, ioas);
  return (sizes & 0xfffn) === 0n ? sizes : (sizes & ~0xfffn) | 0x1000n;
}

function lockAll(kernel: Kernel, ioas: Ref<'Ioas'>): void {
  Ioas.domainsRwsem.acquireWrite(kernel.memory, ioas);
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
}

function unlockAll(kernel: Kernel, ioas: Ref<'Ioas'>): void {
  Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  Ioas.domainsRwsem.releaseWrite(kernel.memory, ioas);
}

export const pageBytesOf = (kernel: Kernel, domain: Ref<'IommuDomain'>): number =>
  1 << IommuDomain.smallestPageBits.peek(kernel.memory, domain);
