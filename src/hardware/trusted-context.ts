/**
 * What the IOMMU's trusted tables say of one requester: the second context beside the host's own, written by the TSM alone (AMD's secure
 * DTE, the trusted root of TDX Connect, the Realm stream table; SEMANTICS f.2).
 *
 *   guest 0 -> g     by the TSM, when the function is bound: root, policy and split are written before
 *   guest g -> 0     by the TSM, when it is unbound: then its caches are flushed, then the tables freed
 *
 * There is one record for each function, for the life of the host.
 */
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import type { Frame } from '#hostmem/memory';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { object, ref, u32, type WordKind } from '#hostmem/struct';

/**
 * Which tables a request walks, and what they say of a page (seed 003). T = 0 walks the host's where nothing else is said.
 *
 *   BYPASS      T = 1 walks the guest's vIOMMU table; T = 0 goes around it
 *   ONE_TABLE   both walk the guest's table
 *   C_BIT       as ONE_TABLE, and each entry says private or shared
 *   SPLIT       no vIOMMU: what is below X is private, what is above is the same memory as shared (vTOM, the top bit of an IPA)
 */
export const TBitPolicy = { BYPASS: 0, ONE_TABLE: 1, C_BIT: 2, SPLIT: 3 } as const;
export type TBitPolicy = (typeof TBitPolicy)[keyof typeof TBitPolicy];

/** X of `SPLIT`: 1 GiB, above all memory of a guest. */
export const splitAt = 0x4000_0000;

export const TrustedContext = object('TrustedContext', {
  /** 0 while the function is bound to nobody. */
  guest: u32,
  /** The tag of its translations in the cache of T = 1. */
  number: u32,
  root: u32 as WordKind<number> as WordKind<Frame>,
  policy: u32,
});

/** Once for a host that has a TSM. */
export const TrustedRoot = object('TrustedRoot', {
  /** Translations of trusted tables: lines of their own, beside those of the host's tables, so that neither finds the other's. */
  iotlb: ref('Iotlb'),
  /** Whether ownership is looked up for hits too, or only before a translation is cached. */
  checksHits: u32,
  /** Whether a request with T = 1 may reach pages that are not private. */
  reachesShared: u32,
  /** All device interfaces of the host, through `Tdi.next`. */
  firstTdi: ref('Tdi'),
  contexts: u32,
});

/** A permission beside `Access` bits: the entry's C bit, that its page is private. */
export const privatePage = 4;
/** The C bit of an entry, in its high word: bit 52, which the format leaves to software. */
export const cBit = 1 << 20;

const secondStage = vtdSecondStage(3);

/** Trusted tables: VT-d's second stage of three levels, with a C bit in the leaves. */
export const trustedFormat: PageTableFormat = {
  ...secondStage,
  name: 'trusted-second-stage-3',
  leafHigh: (frame, permissions, level) =>
    secondStage.leafHigh(frame, permissions & (Access.READ | Access.WRITE), level) | ((permissions & privatePage) !== 0 ? cBit : 0),
};
