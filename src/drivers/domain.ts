/**
 * An IOMMU domain: what a device translates through, whichever driver made it.
 *
 * A paging domain owns page tables in RAM. Whose caches may hold its translations is the list of its cache tags: one for
 * each unit with an attached device, and one for each attached device that uses ATS; one more of each for every PASID that a device has on it. An invalidation visits the list under `tagLock`; a tag joins before the first entry that
 * points to the domain is installed, and leaves after the last one was removed and flushed (INVARIANTS C1).
 */
import { mutex } from '#hostmem/locks';
import type { Frame, Memory } from '#hostmem/memory';
import { NULL, UseAfterFree, type Ref } from '#hostmem/object';
import { object, ref, u32, u64, type WordKind } from '#hostmem/struct';

export const DomainKind = { PAGING: 1, BLOCKED: 2, IDENTITY: 3, NESTED: 4 } as const;
export type DomainKind = (typeof DomainKind)[keyof typeof DomainKind];

/** Whose `iommu_ops` a domain belongs to. */
export const DriverKind = { VTD: 1, MOCK: 2, RISCV: 3, AMD: 4, SMMUV3: 5 } as const;
export type DriverKind = (typeof DriverKind)[keyof typeof DriverKind];

const frame = u32 as WordKind<number> as WordKind<Frame>;

/** All but the tags is constant while the domain lives, and written before it is published. */
export const IommuDomain = object('IommuDomain', {
  kind: u32,
  driver: u32,
  /** `formatId` of the page tables; 0 for a static domain. */
  format: u32,
  /** Levels of the page tables. */
  levels: u32,
  /** The root table; of a nested domain of VT-d the name of its pair of roots (`hardware/nested-line.ts`). */
  root: frame,
  /** The first IOVA that can be mapped. */
  apertureFirstHigh: u32,
  apertureFirstLow: u32,
  /** The last IOVA that can be mapped. */
  apertureLastHigh: u32,
  apertureLastLow: u32,
  /** Leaves of page tables are at this level and below: 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB. */
  largestLeaf: u32,
  /** Smallest page, as a power of two. */
  smallestPageBits: u32,
  /** The sizes of its leaves, a bit each (`pgsize_bitmap`). */
  pageSizes: u64,
  /** Not 0 when the domain delivers page requests: only a device that can make them may attach. */
  pageRequests: u32,
  /** Not 0 when the driver can tell which pages were written (`dirty_ops`). */
  dirtyTracking: u32,
  /** A record of the driver's own. */
  driverData: u32,
  /** Not 0 when it is a second stage that others may lie on. */
  nestParent: u32,
  /** Of such a one of SMMUv3: the unit of the device that it was made for, of which alone a vIOMMU on it can be a part. */
  unit: ref('IommuUnit'),
  /** Of a nested domain: the second stage that it lies on. */
  parent: ref('IommuDomain'),
  tagLock: mutex,
  firstTag: ref('CacheTag').under('tagLock'),
});

/**
 * Under `domainId`, caches of `unit` may hold translations of `domain` that requests with `pasid` (0: without one) had made; `users` devices behind the
 * unit are attached. With a `function`, it is the cache of that function (its device TLB) instead. A unit's own tag comes before those of its functions. All
 * tags of a unit have one domain id, but those that are there for a domain `nested` on this one: they have that one's.
 */
export const CacheTag = object('CacheTag', {
  domain: ref('IommuDomain'),
  unit: ref('IommuUnit'),
  function: ref('PciFunction'),
  nested: ref('IommuDomain'),
  domainId: u32,
  pasid: u32,
  users: u32.under('domain.tagLock'),
  next: ref('CacheTag').under('domain.tagLock'),
});

/** Of a domain that is about to be freed: `UseAfterFree`, before anybody reads what is no more, if a device still translates through it. */
export function leftByAll(kernel: Memory, domain: Ref<'IommuDomain'>): void {
  if (IommuDomain.firstTag.peek(kernel, domain) !== NULL) throw new UseAfterFree('a domain is freed while a device is attached to it');
}
