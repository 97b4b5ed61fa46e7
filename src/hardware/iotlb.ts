/**
 * The IOTLB of a unit: set-associative, in shared memory, shared by all functions behind the unit.
 *
 * An entry is tagged (domain id, PASID and stage, 4 KiB page); a large leaf is cached page by page. The hit path is plain reads under
 * the set's sequence word: it relies on loads staying in order (x86 TSO, and V8 which neither merges nor moves plain reads
 * of shared memory). A reader that meets a writer misses, which is always allowed. One exchange locks a set; what follows are plain words, the
 * sequence word last.
 *
 * A fill is discarded when an invalidation began after its transaction did, whatever the invalidation covers: the
 * invalidator moves `epoch` on *before* it clears, the filler compares it under the set's lock.
 *
 * In front of the sets each thread has lines of its own, copies of what it last hit there. They live as long as `generation`, which the
 * invalidator moves on *after* it has cleared: who copied a line while it was being cleared copied it under a generation that ends.
 * A controlled run goes without them: there every look-up is to be seen, and all state is to be restored.
 *
 * In a controlled run a look-up and a fill are one step each. Both are announced at the epoch's word, and so is the queue's
 * step that invalidates: an invalidation of a domain touches every set, so dependence is per IOTLB.
 */
import { Op, peek, poke, silent } from '#hostmem/atomics';
import { markedLabel } from '#hostmem/labels';
import type { Frame, Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { object, onNewLine, u32, words } from '#hostmem/struct';

const setCount = 64;
const waysPerSet = 4;
/** A set: sequence word (odd while written), next victim, six unused, then the ways; 128 bytes. */
const setWords = 32;
const victimWord = 1;
const firstWay = 8;
const wayWords = 6;
/** A way: page [31:0] · page [47:32] << 16 | domain id · valid << 31 | first stage << 30 | PASID · frame · permissions, with a guest's page above them · root table. */
const Way = { PAGE: 0, TAG: 1, PASID: 2, FRAME: 3, PERMISSIONS: 4, ROOT: 5 } as const;
const valid = 0x80000000 | 0;

/**
 * Added to a PASID where the translation is one of the first stage, alone or on a second one: a PASID-selective invalidation finds only these, a
 * page-selective one of a domain the others by their page and these all (VT-d specification 6.5.2.3, 6.5.2.4). Second stage is tagged with the PASID
 * too; no invalidation uses it.
 */
export const firstStageTag = 1 << 30;
const pasidMask = 0xfffff;

const lookupLabel = markedLabel('Iotlb.lookup');
const fillLabel = markedLabel('Iotlb.fill');
export const invalidateLabel = markedLabel('Iotlb.invalidate');

/** Lines that a thread has for itself: page · tag · PASID word, as in a way · generation · frame · permissions · root, one unused. */
const ownLines = 128;
const ownShift = 3;
const Own = { PAGE: 0, TAG: 1, PASID: 2, GENERATION: 3, FRAME: 4, PERMISSIONS: 5, ROOT: 6 } as const;

export const Iotlb = object('Iotlb', { on: u32, epoch: onNewLine(u32), generation: u32, padBehind: words(30), sets: words(setCount * setWords) });

/** One thread's view; after a hit `frame`, `permissions` and `root` are those of the entry. */
export class IotlbView {
  frame = 0 as Frame;
  permissions = 0;
  /** Root of the tables that the entry was filled from. */
  root = 0 as Frame;
  readonly #kernel: Memory;
  readonly #epochAt: number;
  /** Word index. */
  readonly #generation: number;
  /** Word index of set 0. */
  readonly #sets: number;
  readonly #on: boolean;
  readonly #own = new Int32Array(ownLines << ownShift);

  constructor(kernel: Memory, iotlb: Ref<'Iotlb'>) {
    this.#kernel = kernel;
    this.#epochAt = Iotlb.epoch.address(kernel, iotlb);
    this.#generation = Iotlb.generation.address(kernel, iotlb) >>> 2;
    this.#sets = Iotlb.sets.elementAddress(kernel, iotlb, 0) >>> 2;
    this.#on = Iotlb.on.peek(kernel, iotlb) !== 0;
  }

  /** Byte address at which look-ups, fills and invalidations are announced. */
  get at(): number {
    return this.#epochAt;
  }

  /** To be taken after the transaction is published as in flight, and handed to `fill`. */
  epoch(): number {
    return peek(this.#kernel, this.#epochAt);
  }

  /** Whether the page is cached; `pasidTag` is a PASID, with `firstStageTag` or without. */
  lookup(domainId: number, iovaHigh: number, iovaLow: number, pasidTag: number = 0): boolean {
    const { words, control } = this.#kernel;
    const own = this.#own;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    const line = ownLine(domainId, page);
    const isOwn = own[line] === page && own[line + Own.TAG] === tagOf(domainId, iovaHigh) && own[line + Own.PASID] === (valid | pasidTag);
    if (!isOwn || own[line + Own.GENERATION] !== words[this.#generation] || control !== null) return this.#lookUp(domainId, iovaHigh, iovaLow, pasidTag);
    this.frame = own[line + Own.FRAME]! as Frame;
    this.permissions = own[line + Own.PERMISSIONS]!;
    this.root = own[line + Own.ROOT]! as Frame;
    return true;
  }

  /** Behind the thread's own lines. */
  #lookUp(domainId: number, iovaHigh: number, iovaLow: number, pasidTag: number): boolean {
    if (!this.#on) return false;
    const { words, control } = this.#kernel;
    if (control !== null) {
      control.point(Op.READ, this.#kernel, this.#epochAt, lookupLabel);
      return this.lookupShared(domainId, iovaHigh, iovaLow, pasidTag);
    }
    const generation = words[this.#generation]!;
    if (!this.lookupShared(domainId, iovaHigh, iovaLow, pasidTag)) return false;
    const own = this.#own;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    const line = ownLine(domainId, page);
    own[line] = page;
    own[line + Own.TAG] = tagOf(domainId, iovaHigh);
    own[line + Own.PASID] = valid | pasidTag;
    own[line + Own.GENERATION] = generation;
    own[line + Own.FRAME] = this.frame;
    own[line + Own.PERMISSIONS] = this.permissions;
    own[line + Own.ROOT] = this.root;
    return true;
  }

  /** As `lookup`, in the lines that all share. No point. */
  lookupShared(domainId: number, iovaHigh: number, iovaLow: number, pasidTag: number = 0): boolean {
    const words = this.#kernel.words;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    const tag = tagOf(domainId, iovaHigh);
    const set = this.#set(domainId, page);
    const sequence = words[set]!;
    if ((sequence & 1) !== 0) return false;
    for (let way = set + firstWay; way < set + setWords; way += wayWords) {
      if (words[way] !== page || words[way + Way.TAG] !== tag || words[way + Way.PASID] !== (valid | pasidTag)) continue;
      this.frame = words[way + Way.FRAME]! as Frame;
      this.permissions = words[way + Way.PERMISSIONS]!;
      this.root = words[way + Way.ROOT]! as Frame;
      return words[set] === sequence;
    }
    return false;
  }

  /** Caches a translation, unless an invalidation began since `epoch` was taken or another thread has the set. */
  fill(domainId: number, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, root: Frame, epoch: number, pasidTag: number = 0): void {
    if (!this.#on) return;
    const kernel = this.#kernel;
    const words = kernel.words;
    const control = kernel.control;
    if (control !== null) control.point(Op.WRITE, kernel, this.#epochAt, fillLabel);
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    // What this thread copied of the page may have granted less.
    this.#own[(((page ^ (domainId * 13)) & (ownLines - 1)) << ownShift) + Own.PASID] = 0;
    const set = this.#set(domainId, page);
    const sequence = words[set]!;
    if (!this.#tryLock(set, sequence)) return;
    if (words[this.#epochAt >>> 2] === epoch) {
      if (control !== null) control.dirty(kernel, (set + setWords - 1) * 4);
      const tag = tagOf(domainId, iovaHigh);
      const way = this.#place(set, page, tag, valid | pasidTag);
      words[way] = page;
      words[way + Way.TAG] = tag;
      words[way + Way.PASID] = valid | pasidTag;
      words[way + Way.FRAME] = frame;
      words[way + Way.PERMISSIONS] = permissions;
      words[way + Way.ROOT] = root;
    }
    words[set] = sequence + 2;
  }

  invalidateAll(): void {
    this.#invalidateSets(0, 0, 0, 0, 0, 0);
  }

  invalidateDomain(domainId: number): void {
    this.#invalidateSets(0, 0, domainId, 0xffff, 0, 0);
  }

  /** Drops what the second stage alone translated under a number. */
  invalidateSecondStage(domainId: number): void {
    this.#invalidateSets(0, 0, domainId, 0xffff, 0, firstStageTag);
  }

  /** Drops what the first stage translated under a number, alone or on a second stage. */
  invalidateFirstStage(domainId: number): void {
    this.#invalidateSets(0, 0, domainId, 0xffff, firstStageTag, firstStageTag);
  }

  /** Drops what the first stage translated for a PASID, or for those that agree with it in the bits of a mask. */
  invalidatePasid(domainId: number, pasid: number, mask: number = pasidMask): void {
    this.#invalidateSets(0, 0, domainId, 0xffff, firstStageTag | pasid, firstStageTag | mask);
  }

  /** Drops the second-stage pages of the aligned block of `1 << order` pages around the IOVA; `order` below 32. */
  invalidatePages(domainId: number, iovaHigh: number, iovaLow: number, order: number): void {
    this.#invalidateBlock(domainId, iovaHigh, iovaLow, order, 0, firstStageTag);
  }

  /** As `invalidatePages`, of the first stage of a PASID, or of those that agree with it in the bits of a mask. */
  invalidatePasidPages(domainId: number, pasid: number, iovaHigh: number, iovaLow: number, order: number, mask: number = pasidMask): void {
    this.#invalidateBlock(domainId, iovaHigh, iovaLow, order, firstStageTag | pasid, firstStageTag | mask);
  }

  #invalidateBlock(domainId: number, iovaHigh: number, iovaLow: number, order: number, pasidTag: number, pasidTagMask: number): void {
    const mask = -1 << order;
    const first = ((iovaHigh << 20) | (iovaLow >>> 12)) & mask;
    const tag = tagOf(domainId, iovaHigh);
    if (1 << order >= setCount) {
      this.#invalidateSets(first, mask, tag, -1, pasidTag, pasidTagMask);
      return;
    }
    silent.add(this.#kernel, this.#epochAt, 1);
    for (let page = 0; page < 1 << order; page++) this.#invalidateSet(this.#set(domainId, first + page), first, mask, tag, -1, pasidTag, pasidTagMask);
    silent.add(this.#kernel, this.#generation * 4, 1);
  }

  /** Clears in every set what agrees with the page and the tags in the bits of the masks. */
  #invalidateSets(page: number, pageMask: number, tag: number, tagMask: number, pasidTag: number, pasidTagMask: number): void {
    silent.add(this.#kernel, this.#epochAt, 1);
    for (let set = 0; set < setCount; set++) this.#invalidateSet(this.#sets + set * setWords, page, pageMask, tag, tagMask, pasidTag, pasidTagMask);
    silent.add(this.#kernel, this.#generation * 4, 1);
  }

  /**
   * A set is locked only if it holds something to clear. Looking without the lock is enough: whoever fills from now on
   * either sees the new epoch, or had the lock before it moved, and then the sequence word is still odd here.
   */
  #invalidateSet(set: number, page: number, pageMask: number, tag: number, tagMask: number, pasidTag: number, pasidTagMask: number): void {
    const kernel = this.#kernel;
    for (;;) {
      const sequence = silent.load(kernel, set * 4);
      if ((sequence & 1) !== 0) continue;
      if (this.#match(set, page, pageMask, tag, tagMask, pasidTag, pasidTagMask, set + firstWay) < 0) return;
      if (!this.#tryLock(set, sequence)) continue;
      let way = set + firstWay;
      while ((way = this.#match(set, page, pageMask, tag, tagMask, pasidTag, pasidTagMask, way)) >= 0) poke(kernel, (way + Way.PASID) * 4, 0);
      silent.store(kernel, set * 4, sequence + 2);
      return;
    }
  }

  /** Word index of the first way from `from` on that agrees with the page and the tags in the bits of the masks, or -1. */
  #match(set: number, page: number, pageMask: number, tag: number, tagMask: number, pasidTag: number, pasidTagMask: number, from: number): number {
    const words = this.#kernel.words;
    for (let way = from; way < set + setWords; way += wayWords) {
      const pasidWord = words[way + Way.PASID]!;
      if (pasidWord >= 0 || ((pasidWord ^ pasidTag) & pasidTagMask) !== 0) continue;
      if (((words[way]! ^ page) & pageMask) === 0 && ((words[way + Way.TAG]! ^ tag) & tagMask) === 0) return way;
    }
    return -1;
  }

  /** The way of the same page if there is one, else a free one, else the next victim; the set is locked. */
  #place(set: number, page: number, tag: number, pasidWord: number): number {
    const words = this.#kernel.words;
    let free = 0;
    for (let way = set + firstWay; way < set + setWords; way += wayWords) {
      const found = words[way + Way.PASID]!;
      if (found >= 0) free = free === 0 ? way : free;
      else if (words[way] === page && words[way + Way.TAG] === tag && found === pasidWord) return way;
    }
    if (free !== 0) return free;
    const victim = words[set + victimWord]!;
    words[set + victimWord] = (victim + 1) & (waysPerSet - 1);
    return set + firstWay + victim * wayWords;
  }

  #tryLock(set: number, sequence: number): boolean {
    return (sequence & 1) === 0 && silent.compareExchange(this.#kernel, set * 4, sequence, sequence + 1) === sequence;
  }

  #set(domainId: number, page: number): number {
    return this.#sets + ((page ^ (domainId * 13)) & (setCount - 1)) * setWords;
  }
}

function ownLine(domainId: number, page: number): number {
  return ((page ^ (domainId * 13)) & (ownLines - 1)) << ownShift;
}

function tagOf(domainId: number, iovaHigh: number): number {
  return ((iovaHigh >>> 12) << 16) | domainId;
}

/** A cached translation as an oracle reads it. */
export interface IotlbLine {
  readonly domainId: number;
  readonly firstStage: boolean;
  readonly pasid: number;
  /** Page number, modulo 2^48. */
  readonly page: number;
  readonly frame: Frame;
  readonly permissions: number;
  readonly root: Frame;
}

/** Every cached translation, as no point: for oracles. */
export function iotlbLines(kernel: Memory, iotlb: Ref<'Iotlb'>): IotlbLine[] {
  const found: IotlbLine[] = [];
  const sets = Iotlb.sets.elementAddress(kernel, iotlb, 0);
  for (let set = sets; set < sets + setCount * setWords * 4; set += setWords * 4) {
    for (let at = set + firstWay * 4; at < set + setWords * 4; at += wayWords * 4) {
      const pasid = peek(kernel, at + Way.PASID * 4);
      if (pasid >= 0) continue;
      const tag = peek(kernel, at + Way.TAG * 4);
      found.push({
        domainId: tag & 0xffff,
        firstStage: (pasid & firstStageTag) !== 0,
        pasid: pasid & pasidMask,
        page: (tag >>> 16) * 2 ** 32 + (peek(kernel, at + Way.PAGE * 4) >>> 0),
        frame: peek(kernel, at + Way.FRAME * 4) as Frame,
        permissions: peek(kernel, at + Way.PERMISSIONS * 4) & (Access.READ | Access.WRITE),
        root: peek(kernel, at + Way.ROOT * 4) as Frame,
      });
    }
  }
  return found;
}
