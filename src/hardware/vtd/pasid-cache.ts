/**
 * The PASID cache of a VT-d unit (SEMANTICS d.1): PASID-table entries by (source id, PASID), tagged with their domain id.
 *
 * Direct-mapped, in shared memory. The hit path and the rule for fills are those of the IOTLB (`iotlb.ts`): plain reads under a slot's
 * sequence word, and a fill is discarded when an invalidation began since `epoch` was taken. Only present entries are cached.
 * In a controlled run a look-up and a fill are one step each, announced at the epoch's word as the queue's invalidation is.
 */
import { Op, peek, poke, silent } from '#hostmem/atomics';
import { markedLabel } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, u32, words } from '#hostmem/struct';

const slotCount = 64;
const slotWords = 8;
/** A slot: sequence (odd while written) · source id · valid << 31 | PASID · low words of the entry's first three quadwords. */
const Slot = { SOURCE: 1, PASID: 2, WORDS: 3 } as const;
const valid = 0x80000000 | 0;
const domainMask = 0xffff;

const lookupLabel = markedLabel('PasidCache.lookup');
const fillLabel = markedLabel('PasidCache.fill');
export const pasidInvalidateLabel = markedLabel('PasidCache.invalidate');

export const PasidCache = object('PasidCache', { on: u32, padBefore: words(13), epoch: u32, padBehind: words(31), slots: words(slotCount * slotWords) });

/** The low words of a PASID-table entry's first three quadwords: all that this hardware uses. */
export interface PasidEntryWords {
  word0: number;
  word1: number;
  word2: number;
}

/** One thread's view; a unit without PASIDs has none that is on. */
export class PasidCacheView {
  readonly #kernel: Memory;
  readonly #epochAt: number;
  /** Word index of slot 0. */
  readonly #slots: number;
  readonly #on: boolean;

  constructor(kernel: Memory, cache: Ref<'PasidCache'>) {
    this.#kernel = kernel;
    this.#epochAt = cache === NULL ? 0 : PasidCache.epoch.address(kernel, cache);
    this.#slots = cache === NULL ? 0 : PasidCache.slots.elementAddress(kernel, cache, 0) >>> 2;
    this.#on = cache !== NULL && PasidCache.on.peek(kernel, cache) !== 0;
  }

  /** Byte address at which look-ups, fills and invalidations are announced. */
  get at(): number {
    return this.#epochAt;
  }

  /** To be taken before the entry is read, and handed to `fill`. */
  epoch(): number {
    return peek(this.#kernel, this.#epochAt);
  }

  /** Whether the entry is cached; then its words are in `entry`. */
  lookup(sourceId: number, pasid: number, entry: PasidEntryWords): boolean {
    if (!this.#on) return false;
    const control = this.#kernel.control;
    if (control !== null) control.point(Op.READ, this.#kernel, this.#epochAt, lookupLabel);
    const words = this.#kernel.words;
    const slot = this.#slot(sourceId, pasid);
    const sequence = words[slot]!;
    if ((sequence & 1) !== 0 || words[slot + Slot.SOURCE] !== sourceId || words[slot + Slot.PASID] !== (valid | pasid)) return false;
    entry.word0 = words[slot + Slot.WORDS]!;
    entry.word1 = words[slot + Slot.WORDS + 1]!;
    entry.word2 = words[slot + Slot.WORDS + 2]!;
    return words[slot] === sequence;
  }

  /** Caches an entry, unless an invalidation began since `epoch` was taken or another thread has the slot. */
  fill(sourceId: number, pasid: number, entry: PasidEntryWords, epoch: number): void {
    if (!this.#on) return;
    const kernel = this.#kernel;
    if (kernel.control !== null) kernel.control.point(Op.WRITE, kernel, this.#epochAt, fillLabel);
    const slot = this.#slot(sourceId, pasid);
    const sequence = silent.load(kernel, slot * 4);
    if (!this.#tryLock(slot, sequence)) return;
    if (silent.load(kernel, this.#epochAt) === epoch) {
      poke(kernel, (slot + Slot.SOURCE) * 4, sourceId);
      poke(kernel, (slot + Slot.PASID) * 4, valid | pasid);
      poke(kernel, (slot + Slot.WORDS) * 4, entry.word0);
      poke(kernel, (slot + Slot.WORDS + 1) * 4, entry.word1);
      poke(kernel, (slot + Slot.WORDS + 2) * 4, entry.word2);
    }
    silent.store(kernel, slot * 4, sequence + 2);
  }

  invalidateAll(): void {
    this.#invalidate(0, 0, 0, 0);
  }

  /** Drops the entries of a domain id, whatever the PASID. */
  invalidateDomain(domainId: number): void {
    this.#invalidate(domainId, domainMask, 0, 0);
  }

  /** Drops the entries of a PASID under a domain id, of every source. */
  invalidatePasid(domainId: number, pasid: number): void {
    this.#invalidate(domainId, domainMask, valid | pasid, -1);
  }

  #invalidate(domainId: number, ofDomain: number, pasidWord: number, ofPasid: number): void {
    if (!this.#on) return;
    silent.add(this.#kernel, this.#epochAt, 1);
    for (let i = 0; i < slotCount; i++) this.#invalidateSlot(this.#slots + i * slotWords, domainId, ofDomain, pasidWord, ofPasid);
  }

  /** Looking without the lock is enough, as in the IOTLB: a filler either sees the new epoch or still holds the slot. */
  #invalidateSlot(slot: number, domainId: number, ofDomain: number, pasidWord: number, ofPasid: number): void {
    const kernel = this.#kernel;
    const words = kernel.words;
    for (;;) {
      const sequence = silent.load(kernel, slot * 4);
      if ((sequence & 1) !== 0) continue;
      const found = words[slot + Slot.PASID]!;
      if (found >= 0 || ((found ^ pasidWord) & ofPasid) !== 0 || ((words[slot + Slot.WORDS + 1]! ^ domainId) & ofDomain) !== 0) return;
      if (!this.#tryLock(slot, sequence)) continue;
      poke(kernel, (slot + Slot.PASID) * 4, 0);
      silent.store(kernel, slot * 4, sequence + 2);
      return;
    }
  }

  #tryLock(slot: number, sequence: number): boolean {
    return (sequence & 1) === 0 && silent.compareExchange(this.#kernel, slot * 4, sequence, sequence + 1) === sequence;
  }

  #slot(sourceId: number, pasid: number): number {
    return this.#slots + ((sourceId ^ (sourceId >>> 3) ^ (pasid * 13)) & (slotCount - 1)) * slotWords;
  }
}
