/**
 * The context cache and the PASID cache of a VT-d unit (SEMANTICS d.1): context entries by source id, PASID entries by (source id,
 * PASID), both tagged with their domain id; a context entry of scalable mode has none and is tagged 0.
 *
 * Each look-up and each fill is one step of a controlled run, announced at the cache's epoch as the queue's invalidation is.
 */
import { markedLabel } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TaggedCacheView } from '../tagged-cache.ts';

const all = -1;
const domainMask = 0xffff;
/** By FM: bits of the function number that a context-cache invalidation passes over. */
const functionMasks = [0, 4, 6, 7] as const;

const contextLabels = { lookup: markedLabel('ContextCache.lookup'), fill: markedLabel('ContextCache.fill') };
const pasidLabels = { lookup: markedLabel('PasidCache.lookup'), fill: markedLabel('PasidCache.fill') };
export const contextInvalidateLabel = markedLabel('ContextCache.invalidate');
export const pasidInvalidateLabel = markedLabel('PasidCache.invalidate');

/** The low words of an entry's first three quadwords: all that this hardware uses. */
export interface EntryWords {
  word0: number;
  word1: number;
  word2: number;
}

class EntryCache {
  protected readonly lines: TaggedCacheView;

  constructor(lines: TaggedCacheView) {
    this.lines = lines;
  }

  get at(): number {
    return this.lines.at;
  }

  /** To be taken before anything is read that the entry depends on, and handed to `fill`. */
  epoch(): number {
    return this.lines.epoch();
  }

  /** Whether there is such a cache, and it is on. */
  get on(): boolean {
    return this.lines.on;
  }

  /** Word index: as long as that word is the same, an entry that was found here may still be used. */
  get generationAt(): number {
    return this.lines.generationAt;
  }

  protected find(sourceId: number, pasid: number, entry: EntryWords): boolean {
    const lines = this.lines;
    if (!lines.lookup(sourceId, pasid, 0, 0)) return false;
    entry.word0 = lines.value0;
    entry.word1 = lines.value1;
    entry.word2 = lines.value2;
    return true;
  }

  invalidateAll(): void {
    this.lines.invalidate(0, 0, 0, 0, 0, 0);
  }

  invalidateDomain(domainId: number): void {
    this.lines.invalidate(0, 0, 0, 0, domainId, domainMask);
  }
}

export class ContextCache extends EntryCache {
  constructor(kernel: Memory, cache: Ref<'TaggedCache'>) {
    super(new TaggedCacheView(kernel, cache, contextLabels));
  }

  lookup(sourceId: number, entry: EntryWords): boolean {
    return this.find(sourceId, 0, entry);
  }

  fill(sourceId: number, domainId: number, entry: EntryWords, epoch: number): void {
    this.lines.fill(sourceId, 0, domainId, entry.word0, entry.word1, 0, epoch);
  }

  /** Drops the entry of one requester, or with `functionMask` those of several functions of its device. Software gives the domain id for checking; it is not looked at. */
  invalidateSource(sourceId: number, functionMask: number): void {
    this.lines.invalidate(sourceId, ~functionMasks[functionMask]!, 0, 0, 0, 0);
  }
}

export class PasidCache extends EntryCache {
  constructor(kernel: Memory, cache: Ref<'TaggedCache'>) {
    super(new TaggedCacheView(kernel, cache, pasidLabels));
  }

  lookup(sourceId: number, pasid: number, entry: EntryWords): boolean {
    return this.find(sourceId, pasid, entry);
  }

  fill(sourceId: number, pasid: number, domainId: number, entry: EntryWords, epoch: number): void {
    this.lines.fill(sourceId, pasid, domainId, entry.word0, entry.word1, entry.word2, epoch);
  }

  /** Drops the entries of a PASID under a domain id, of every source. */
  invalidatePasid(domainId: number, pasid: number): void {
    this.lines.invalidate(0, 0, pasid, all & ~(1 << 31), domainId, domainMask);
  }
}

/** Both, as a thread's requests use them. */
export interface EntryCaches {
  readonly contexts: ContextCache;
  readonly pasids: PasidCache;
}
