/** Domains as drivers make them that have one kind of page tables and one number for each domain. */
import { pageShift, type Frame, type Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { PageTableFormat } from '#hostmem/page-table-format';
import { DomainKind, IommuDomain, type DriverKind } from './domain.ts';
import { formatId } from './driver.ts';

/** Leaves of 4 KiB, 2 MiB and 1 GiB. */
export const largestLeaf = 3;
const pageSizes = (1 << 12) | (1 << 21) | (1 << 30);

/** An empty domain over a root table; `inputBits` is the width of its IOVAs, `driverData` what the driver keeps of it. `NULL` without memory. */
export function createPagingDomain(kernel: Memory, driver: DriverKind, format: PageTableFormat, root: Frame, inputBits: number, driverData: number): Ref<'IommuDomain'> {
  const domain = IommuDomain.tryCreate(kernel);
  if (domain === NULL) return domain;
  IommuDomain.kind.poke(kernel, domain, DomainKind.PAGING);
  IommuDomain.driver.poke(kernel, domain, driver);
  IommuDomain.format.poke(kernel, domain, formatId(format));
  IommuDomain.levels.poke(kernel, domain, format.levels);
  IommuDomain.root.poke(kernel, domain, root);
  IommuDomain.largestLeaf.poke(kernel, domain, largestLeaf);
  IommuDomain.apertureLastHigh.poke(kernel, domain, 2 ** (inputBits - 32) - 1);
  IommuDomain.apertureLastLow.poke(kernel, domain, -1);
  IommuDomain.smallestPageBits.poke(kernel, domain, pageShift);
  IommuDomain.pageSizes.poke(kernel, domain, 0, pageSizes);
  IommuDomain.driverData.poke(kernel, domain, driverData);
  return domain;
}

/** A domain without tables: blocking, or identity. */
export function createStaticDomain(kernel: Memory, driver: DriverKind, kind: DomainKind): Ref<'IommuDomain'> {
  const domain = IommuDomain.create(kernel);
  IommuDomain.kind.poke(kernel, domain, kind);
  IommuDomain.driver.poke(kernel, domain, driver);
  return domain;
}

export const isPagingDomain = (kernel: Memory, domain: Ref<'IommuDomain'>): boolean => IommuDomain.kind.peek(kernel, domain) === DomainKind.PAGING;
