/**
 * The paging-structure cache of a unit: which table of level 1 or 2 serves a region of 2 MiB or 1 GiB, so that a walk begins there
 * (VT-d specification 6.2.5; SEMANTICS d.1).
 *
 * A line is tagged like the IOTLB's, (domain id, PASID and stage, region), and every IOTLB invalidation drops lines too, but one with
 * the hint that only leaves changed (IH). Look-up, fill and invalidation are parts of the IOTLB's steps, under the IOTLB's epoch.
 */
import type { Frame, Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { firstStageTag } from './iotlb.ts';
import { TaggedCacheView } from './tagged-cache.ts';

const levelShift = 20;
const levelMask = 7 << levelShift;
const pasidMask = (1 << levelShift) - 1;
const ownerMask = firstStageTag | pasidMask;

export class WalkCache {
  /** After a hit: the table, the level of its entries, and what the levels above grant. */
  table = 0 as Frame;
  level = 0;
  permissions = 0;
  readonly #kernel: Memory;
  readonly #lines: TaggedCacheView;
  /** Word index. */
  readonly #generationAt: number;
  /** What the last look-up found in level 1, as a line of the thread's own: it lives as long as no invalidation has cleared anything. Free runs alone. */
  #isKept = false;
  #region = 0;
  #tag = 0;
  #pasidTag = 0;
  #generation = 0;

  /** `epochAt` is where the IOTLB's look-ups are announced. */
  constructor(kernel: Memory, cache: Ref<'TaggedCache'>, epochAt: number) {
    this.#kernel = kernel;
    this.#lines = new TaggedCacheView(kernel, cache, null, epochAt);
    this.#generationAt = this.#lines.generationAt;
  }

  /** Finds the lowest table known for a page; `pasidTag` as the IOTLB's. */
  lookup(domainId: number, iovaHigh: number, iovaLow: number, pasidTag: number): boolean {
    const isSame = this.#isKept && this.#region === regionOf(1, iovaHigh, iovaLow) && this.#tag === tagOf(1, domainId, iovaHigh) && this.#pasidTag === pasidTag;
    if (isSame && this.#kernel.words[this.#generationAt] === this.#generation) return true;
    return this.#lookUp(domainId, iovaHigh, iovaLow, pasidTag);
  }

  #lookUp(domainId: number, iovaHigh: number, iovaLow: number, pasidTag: number): boolean {
    const lines = this.#lines;
    this.#isKept = false;
    if (!lines.on) return false;
    this.#generation = this.#kernel.words[this.#generationAt]!;
    for (let level = 1; level <= 2; level++) {
      if (!lines.lookup(regionOf(level, iovaHigh, iovaLow), pasidTag | (level << levelShift), tagOf(level, domainId, iovaHigh), -1)) continue;
      this.table = lines.value0 as Frame;
      this.permissions = lines.value1;
      this.level = level;
      if (level === 1 && this.#kernel.control === null) this.#keep(regionOf(1, iovaHigh, iovaLow), tagOf(1, domainId, iovaHigh), pasidTag);
      return true;
    }
    return false;
  }

  #keep(region: number, tag: number, pasidTag: number): void {
    this.#isKept = true;
    this.#region = region;
    this.#tag = tag;
    this.#pasidTag = pasidTag;
  }

  /** Remembers the table in which a walk found its leaf, unless an invalidation began since the IOTLB's `epoch`. */
  fill(domainId: number, iovaHigh: number, iovaLow: number, pasidTag: number, table: Frame, level: number, permissions: number, epoch: number): void {
    if (level > 2) return;
    const tag = tagOf(level, domainId, iovaHigh);
    this.#lines.fill(regionOf(level, iovaHigh, iovaLow), pasidTag | (level << levelShift), tag, table, permissions, 0, epoch);
  }

  invalidateAll(): void {
    this.#lines.invalidate(0, 0, 0, 0, 0, 0);
  }

  invalidateDomain(domainId: number): void {
    this.#lines.invalidate(0, 0, 0, 0, domainId, 0xffff);
  }

  /** Tables of the first stage, whichever PASID's. */
  invalidateFirstStage(domainId: number): void {
    this.#lines.invalidate(0, 0, firstStageTag, firstStageTag, domainId, 0xffff);
  }

  invalidatePasid(domainId: number, pasid: number): void {
    this.#lines.invalidate(0, 0, firstStageTag | pasid, ownerMask, domainId, 0xffff);
  }

  /** Drops the tables that serve pages of the aligned block of `1 << order`; `order` below 32. Second stage, or a PASID's first with `firstStageTag | pasid`. */
  invalidatePages(domainId: number, iovaHigh: number, iovaLow: number, order: number, pasidTag: number): void {
    const ofStage = pasidTag === 0 ? firstStageTag : ownerMask;
    for (let level = 1; level <= 2; level++) {
      const bits = order - 9 * level;
      const key = regionOf(level, iovaHigh, iovaLow);
      const owner = pasidTag | (level << levelShift);
      this.#lines.invalidate(key, bits > 0 ? -1 << bits : -1, owner, ofStage | levelMask, tagOf(level, domainId, iovaHigh), -1);
    }
  }
}

/** The number of the region, modulo 2^32. */
function regionOf(level: number, iovaHigh: number, iovaLow: number): number {
  const shift = 12 + 9 * level;
  return ((iovaHigh << (32 - shift)) | (iovaLow >>> shift)) | 0;
}

/** What the region's number leaves out, beside the domain id. */
function tagOf(level: number, domainId: number, iovaHigh: number): number {
  return ((iovaHigh >>> (12 + 9 * level)) << 16) | domainId;
}
