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
import type { PageTableFormat } from '#hostmem/page-table-format';
import type { WalkResult } from '#hostmem/page-walk';
import { object, ref, u32 } from '#hostmem/struct';
import type { ErrnoName } from '../kernel/errno.ts';

/** What a driver keeps of a device, reached through `PciFunction.driverData`; owned by who holds the group's mutex. */
export const IommuDevice = object('IommuDevice', {
  function: ref('PciFunction'),
  unit: ref('IommuUnit'),
  /** The paging domain that the hardware entry points to; `NULL` while blocked or in identity. */
  domain: ref('IommuDomain'),
  /** Frame of its PASID directory, where it has one. */
  pasidDirectory: u32,
  /** Not 0 when the function may make translation requests. */
  atsEnabled: u32,
  /** The PASIDs that are set, and their domains. */
  pasids: ref('DevicePasid'),
  /** Of a guest's on SMMUv3: the driver's record of its vIOMMU, or 0, and its stream there. */
  guest: u32,
  guestStream: u32,
});

/** Flags of `allocPagingDomain`: those of IOMMU_HWPT_ALLOC that reach a driver. */
export const DomainFlags = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;

/** A format's number in `IommuDomain.format`. */
export const formatId = (format: PageTableFormat): number => hashText(format.name) | 0;

export type MapError = 'ENOMEM' | 'EADDRINUSE' | 'ERANGE' | 'EINVAL';
export type AttachError = 'EINVAL' | 'ENOENT' | 'ENODEV' | 'ENOSPC' | 'ENOMEM';

/**
 * GET_HW_INFO: `type` 1 is VT-d with `words` CAP and ECAP; `register` is the word behind the flags, where a type has one.
 * `capabilities` and `maxPasidLog2` are the generic part.
 */
export interface HwInfo {
  readonly type: number;
  /** Null where the type's struct has neither flags nor a register, but begins with its words. */
  readonly flags: number | null;
  readonly register?: number;
  readonly words: readonly bigint[];
  readonly capabilities: number;
  readonly maxPasidLog2: number;
}

/** IOVAs that must not be mapped, both ends inclusive, below 2^53. */
export interface ReservedRegion {
  readonly first: number;
  readonly last: number;
}

/** What a user hands through to the driver, which reads it (`user-data.ts`): the type that it claims, and the bytes. */
export interface UserData {
  readonly type: number;
  readonly bytes: Uint8Array;
  /** They lie where nothing is mapped; `bytes` is only as long as they should be. */
  readonly absent?: boolean;
}

/** Invalidations of HWPT_INVALIDATE: `count` entries of `entryBytes` each; `bytes` is as much of them as can be read. The driver counts those that it carried out in `handled`. */
export interface Invalidations {
  readonly type: number;
  readonly entryBytes: number;
  readonly count: number;
  readonly bytes: Uint8Array;
  handled: number;
}

/** Pages of registers that user space may map; the kernel writes where into the driver's answer, as 64 bits from `offsetAt` on. */
export interface Registers {
  readonly firstFrame: Frame;
  readonly pages: number;
  readonly offsetAt: number;
}

/** What a unit reports of a device that is a guest's: for which vIOMMU of the kernel's, and the record as the guest is to have it. */
export interface GuestEvent {
  readonly viommu: number;
  readonly type: number;
  readonly words: readonly number[];
}

/** A driver's record of a vIOMMU, and what it answers. */
export interface DriverViommu {
  readonly viommu: number;
  readonly answer: Uint8Array;
  readonly registers?: Registers;
}

/** A page request as hardware tells of it. */
export interface TakenRequest {
  readonly rid: number;
  /** Null: without a PASID. */
  readonly pasid: number | null;
  readonly group: number;
  /** Number of the page, its low 32 bits. */
  readonly page: number;
  /** `Access` bits. */
  readonly access: number;
}

/** Codes that answer a page request. */
export const PageAnswer = { SUCCESS: 0, INVALID: 1 } as const;

/** Written ranges that a driver found: `iovas[i]` and `lengths[i]` in bytes. */
export interface DirtyRanges {
  readonly iovas: bigint[];
  readonly lengths: bigint[];
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
  /** Whether a domain was made by the driver of the function (`domain_iommu_ops_compatible`); absent where there is only one driver. */
  owns?(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): boolean;
  reservedRegions(pciFunction: Ref<'PciFunction'>): readonly ReservedRegion[];

  // What only some drivers have. Names as in `iommu_ops`, `iommu_dirty_ops` and `iommufd_viommu_ops`; without one the kernel says EOPNOTSUPP.

  /** `map` for a range that is no whole number of pages, to `bytes` of RAM from `hpa` on. For domains whose smallest page is below 4 KiB. */
  mapBytes?(domain: Ref<'IommuDomain'>, iova: bigint, hpa: number, bytes: number, permissions: number): 0 | MapError;
  /** `unmap` and `sync` of such a range. */
  unmapBytes?(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint): void;
  /** The host address that an IOVA reaches, to the byte (`iova_to_phys`), as no point; -1 for none. */
  iovaToPhys?(domain: Ref<'IommuDomain'>, iova: bigint): number;
  /** Whether the domain notes which pages are written. */
  tracksWrites?(domain: Ref<'IommuDomain'>): boolean;
  /** A device writes through the domain at an IOVA: the page, if there is one, is dirty from now on. */
  markWritten?(domain: Ref<'IommuDomain'>, iova: bigint): void;
  /** Lets a function with ATS make translation requests, or no longer; nothing where function or unit have none (`iommu_enable_pci_ats`). */
  enableAts?(pciFunction: Ref<'PciFunction'>): void;
  disableAts?(pciFunction: Ref<'PciFunction'>): void;
  /** How many PASIDs a function has, 0 for none: a PASID attachment is bookkeeping alone then. Absent, with what follows, where the driver sets none: EOPNOTSUPP. */
  pasidsOf?(pciFunction: Ref<'PciFunction'>): number;
  /** Lets requests with the PASID go through a domain (`set_dev_pasid`). 0, or an errno after which all is as before. */
  setPasid?(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>, pasid: number): 0 | ErrnoName;
  /** Whether a function's page requests reach the kernel. Absent where none do, with what follows. */
  takesPageRequests?(pciFunction: Ref<'PciFunction'>): boolean;
  /** How many page requests ever came into the queue of the unit before a function (the register PQT, read once). */
  pageRequestsSoFar?(pciFunction: Ref<'PciFunction'>): number;
  /** Takes the oldest out of that queue, whichever function asked; null when the first `count` that came are taken. One thread at a time. */
  takePageRequest?(pciFunction: Ref<'PciFunction'>, count: number): TakenRequest | null;
  /**
   * Q8: on return what the function had asked for, with a PASID or (null) without, lies in that queue. False when the queue had no room for all: software is to
   * take what is there, and to drain again.
   */
  drainPageRequests?(pciFunction: Ref<'PciFunction'>, pasid: number | null): boolean;
  /** `page_response`: answers a group of page requests of a function, which had that PASID or none, with a code of PRI. */
  answerPage?(pciFunction: Ref<'PciFunction'>, group: number, code: number, pasid: number | null): void;
  /** `hw_info` for another type than the driver's own; null for one that it does not have. */
  hwInfoOf?(pciFunction: Ref<'PciFunction'>, type: number): HwInfo | null;
  /** A paging domain from a user's data (`domain_alloc_paging_flags` with data). EOPNOTSUPP, EINVAL, ENOMEM. */
  allocPagingWithData?(pciFunction: Ref<'PciFunction'>, flags: number, data: UserData): Ref<'IommuDomain'>;
  /** A domain on top of `parent` (`domain_alloc_nested`). EOPNOTSUPP, EINVAL, ENOMEM. */
  allocNestedDomain?(pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, flags: number, data: UserData): Ref<'IommuDomain'>;
  /** `cache_invalidate_user` of a nested domain. */
  invalidateNested?(domain: Ref<'IommuDomain'>, asked: Invalidations): 0 | ErrnoName;

  /** `set_dirty_tracking`. 0, or an errno. */
  setDirtyTracking?(domain: Ref<'IommuDomain'>, enabled: boolean): 0 | ErrnoName;
  /** `read_and_clear_dirty` of `[iova, iova + bytes)`: appends what was written; clears it if `clear`, and flushes. 0, or an errno. */
  readAndClearDirty?(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint, clear: boolean, found: DirtyRanges): 0 | ErrnoName;

  /** Whether the IOMMU before the function has vIOMMUs of a type (`get_viommu_size`). */
  hasViommu?(pciFunction: Ref<'PciFunction'>, type: number): boolean;
  /**
   * The driver's record of a new vIOMMU (`viommu_init`), which the kernel knows as `viommu`; `answer` is written over the user's data, as far as it is long.
   * EINVAL, EOPNOTSUPP, ENOMEM.
   */
  viommuInit?(pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, data: UserData, viommu: number): DriverViommu;
  viommuDestroy?(viommu: number): void;
  /** Whether a function is behind the IOMMU that the vIOMMU is a part of; without it, every one is. */
  viommuCovers?(viommu: number, pciFunction: Ref<'PciFunction'>): boolean;
  /** A nested domain through a vIOMMU (`alloc_domain_nested`). EOPNOTSUPP, EINVAL, ENOMEM. */
  viommuAllocNested?(viommu: number, flags: number, data: UserData): Ref<'IommuDomain'>;
  /** `cache_invalidate` of a vIOMMU. */
  viommuInvalidate?(viommu: number, asked: Invalidations): 0 | ErrnoName;
  /** A device gets, or loses, its number within a vIOMMU (`vdevice_init`). 0, or an errno. */
  vdeviceInit?(viommu: number, pciFunction: Ref<'PciFunction'>, virtId: bigint): 0 | ErrnoName;
  vdeviceDestroy?(viommu: number, pciFunction: Ref<'PciFunction'>, virtId: bigint): void;
  /**
   * Takes what the unit before a function has reported and a guest is to know. Until `endGuestEvents` no device comes to a guest or leaves it, so that their
   * vIOMMUs stay. Both are absent where units report nothing to guests.
   */
  beginGuestEvents?(pciFunction: Ref<'PciFunction'>): readonly GuestEvent[];
  endGuestEvents?(pciFunction: Ref<'PciFunction'>): void;
  /** Whether a vIOMMU has hardware queues of a type (`get_hw_queue_size`). */
  hasHwQueue?(viommu: number, type: number): boolean;
  /** `hw_queue_init_phys`: queue `index` of the vIOMMU lies in `bytes` of RAM from `hpa` on. 0, or an errno. */
  hwQueueInit?(viommu: number, index: number, hpa: number, bytes: bigint): 0 | ErrnoName;
  hwQueueDestroy?(viommu: number, index: number): void;
}
