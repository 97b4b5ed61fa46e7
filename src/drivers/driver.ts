/**
 * What the kernel asks of an IOMMU driver: Linux's `iommu_ops` and `iommu_domain_ops`, as far as they are modelled.
 *
 * The kernel serialises attach and release of a device (group mutex); map, unmap and sync of one domain may run at the same
 * time as each other and as attaches, for disjoint IOVA ranges. A driver never reads a cache.
 */
import type { Engine } from '#hostmem/engine';
import { hashText } from '#hostmem/labels';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { PageTableFormat, WalkResult } from '#hostmem/page-table';
import { object, ref, u32 } from '#hostmem/struct';

/** What a driver keeps of a device, reached through `PciFunction.driverData`; owned by who holds the group's mutex. */
export const IommuDevice = object('IommuDevice', {
  function: ref('PciFunction'),
  unit: ref('IommuUnit'),
  /** The paging domain that the hardware entry points to; `NULL` while blocked or in identity. */
  domain: ref('IommuDomain'),
  /** Frame of its PASID directory, where it has one. */
  pasidDirectory: u32,
});

/** Flags of `allocPagingDomain`: those of IOMMU_HWPT_ALLOC that reach a driver. */
export const DomainFlags = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;

/** A format's number in `IommuDomain.format`. */
export const formatId = (format: PageTableFormat): number => hashText(format.name) | 0;

export type MapError = 'ENOMEM' | 'EADDRINUSE' | 'ERANGE' | 'EINVAL';
export type AttachError = 'EINVAL' | 'ENODEV' | 'ENOSPC' | 'ENOMEM';

/**
 * GET_HW_INFO: `type` 1 is VT-d with `words` CAP and ECAP; `register` is the word behind the flags, where a type has one.
 * `capabilities` and `maxPasidLog2` are the generic part.
 */
export interface HwInfo {
  readonly type: number;
  readonly flags: number;
  readonly register?: number;
  readonly words: readonly bigint[];
  readonly capabilities: number;
  readonly maxPasidLog2: number;
}

/** IOVAs that must not be mapped, both ends inclusive, below 4 GiB. */
export interface ReservedRegion {
  readonly first: number;
  readonly last: number;
}

export interface IommuDriver {
  /** Every DMA faults. */
  readonly blockedDomain: Ref<'IommuDomain'>;
  /** No translation. */
  readonly identityDomain: Ref<'IommuDomain'>;
  /** Parts of the driver that act by themselves. */
  engines(): readonly Engine[];
  /** Prepares for a function; it is blocked until an attach. ENOMEM. */
  probe(pciFunction: Ref<'PciFunction'>): void;
  /** Blocks a function and forgets it. */
  release(pciFunction: Ref<'PciFunction'>): void;
  /** An empty paging domain that the function can attach. ENOMEM; EOPNOTSUPP for a flag that the unit has no support for. */
  allocPagingDomain(pciFunction: Ref<'PciFunction'>, flags: number): Ref<'IommuDomain'>;
  /** Frees a paging domain and its tables. No device may be attached. */
  freeDomain(domain: Ref<'IommuDomain'>): void;
  /** Lets a function translate through a domain, whatever it had before. 0, or an error that the driver decides the aftermath of. */
  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError;
  /**
   * Maps `pages` pages of 4 KiB to consecutive frames, in the largest leaves that fit (who wants none maps page by page, as the kernel
   * does with large pages disabled); `permissions` are `Access` bits. What was done is undone on an error
   * (SEMANTICS B13). 0, or EINVAL for a misaligned IOVA, no permission or a domain without tables, ERANGE, EADDRINUSE, ENOMEM.
   */
  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages?: number): 0 | MapError;
  /** Clears the leaves of a range and returns how many pages were mapped. Caches keep them until `sync`. */
  unmap(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): number;
  /** Returns when no cache and no transaction in flight can use what `unmap` cleared. `leafOnly`: no table was removed. */
  sync(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void;
  /** What is mapped at an IOVA, as no point. 0 or a `WalkFault`. */
  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number;
  hwInfo(pciFunction: Ref<'PciFunction'>): HwInfo;
  reservedRegions(pciFunction: Ref<'PciFunction'>): readonly ReservedRegion[];
}
