/**
 * A cache of a unit beside its IOTLB: table entries of requesters, PASIDs, or upper levels of page tables, in shared memory.
 *
 * Set-associative. A line is found by `key`, `owner` and those bits of its `tag` that the look-up names; an invalidation names bits of
 * all three. What the words mean is the business of who owns the cache (`vtd/entry-caches.ts`, `walk-cache.ts`). The hit path and the
 * rule for fills are those of the IOTLB (`iotlb.ts`): plain reads under a set's sequence word, and a fill is discarded when an
 * invalidation began since its epoch was taken. Only present entries are cached.
 */
import { Op, peek, poke, silent } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, onNewLine, u32, words } from '#hostmem/struct';

const setCount = 32;
const victimWord = 1;
const firstWay = 4;
const wayWords = 9;
const waysPerSet = 2;
/** A set: sequence word (odd while written), next victim, two unused, then the ways. */
const setWords = firstWay + waysPerSet * wayWords;
/** A way: key · valid << 31 | owner · tag · six values, of which most caches use three. */
const Way = { OWNER: 1, TAG: 2, VALUES: 3 } as const;
const valid = 0x80000000 | 0;

export const TaggedCache = object('TaggedCache', { on: u32, epoch: onNewLine(u32), generation: u32, padBehind: words(30), sets: words(setCount * setWords) });

/** Where look-ups and fills are points of a controlled run. */
export interface CacheLabels {
  readonly lookup: number;
  readonly fill: number;
}

/** One thread's view; after a hit the values are those of the line. */
export class TaggedCacheView {
  value0 = 0;
  value1 = 0;
  value2 = 0;
  value3 = 0;
  value4 = 0;
  value5 = 0;
  readonly #kernel: Memory;
  readonly #epochAt: number;
  /** Word index of a word that an invalidation moves on after it has cleared: copies of lines may be kept as long as it is the same. 0 without a cache. */
  readonly generationAt: number;
  /** Word index of set 0. */
  readonly #sets: number;
  readonly #on: boolean;
  readonly #labels: CacheLabels | null;

  /** `NULL` is a cache that the unit does not have. Without labels nothing is a point: the cache is part of another's step, with the epoch of that one at `epochAt`. */
  constructor(kernel: Memory, cache: Ref<'TaggedCache'>, labels: CacheLabels | null, epochAt: number = 0) {
    this.#kernel = kernel;
    this.#epochAt = epochAt !== 0 || cache === NULL ? epochAt : TaggedCache.epoch.address(kernel, cache);
    this.generationAt = cache === NULL ? 0 : TaggedCache.generation.address(kernel, cache) >>> 2;
    this.#sets = cache === NULL ? 0 : TaggedCache.sets.elementAddress(kernel, cache, 0) >>> 2;
    this.#on = cache !== NULL && TaggedCache.on.peek(kernel, cache) !== 0;
    this.#labels = labels;
  }

  get on(): boolean {
    return this.#on;
  }

  /** Byte address at which look-ups, fills and invalidations are announced. */
  get at(): number {
    return this.#epochAt;
  }

  /** To be taken before anything is read that a fill depends on, and handed to `fill`. */
  epoch(): number {
    return peek(this.#kernel, this.#epochAt);
  }

  lookup(key: number, owner: number, tag: number, tagMask: number): boolean {
    if (!this.#on) return false;
    const control = this.#kernel.control;
    if (control !== null && this.#labels !== null) control.point(Op.READ, this.#kernel, this.#epochAt, this.#labels.lookup);
    const words = this.#kernel.words;
    const set = this.#set(key, owner);
    const sequence = words[set]!;
    if ((sequence & 1) !== 0) return false;
    for (let way = set + firstWay; way < set + setWords; way += wayWords) {
      if (words[way] !== key || words[way + Way.OWNER] !== (valid | owner) || ((words[way + Way.TAG]! ^ tag) & tagMask) !== 0) continue;
      this.value0 = words[way + Way.VALUES]!;
      this.value1 = words[way + Way.VALUES + 1]!;
      this.value2 = words[way + Way.VALUES + 2]!;
      this.value3 = words[way + Way.VALUES + 3]!;
      this.value4 = words[way + Way.VALUES + 4]!;
      this.value5 = words[way + Way.VALUES + 5]!;
      return words[set] === sequence;
    }
    return false;
  }

  /** Caches a line, unless an invalidation began since `epoch` was taken or another thread has the set. */
  fill(key: number, owner: number, tag: number, value0: number, value1: number, value2: number, epoch: number, value3: number = 0, value4: number = 0, value5: number = 0): void {
    if (!this.#on) return;
    const kernel = this.#kernel;
    if (kernel.control !== null && this.#labels !== null) kernel.control.point(Op.WRITE, kernel, this.#epochAt, this.#labels.fill);
    const words = kernel.words;
    const set = this.#set(key, owner);
    const sequence = words[set]!;
    if (!this.#tryLock(set, sequence)) return;
    if (words[this.#epochAt >>> 2] === epoch) {
      if (kernel.control !== null) kernel.control.dirty(kernel, (set + setWords - 1) * 4);
      const way = this.#place(set, key, owner);
      words[way] = key;
      words[way + Way.OWNER] = valid | owner;
      words[way + Way.TAG] = tag;
      words[way + Way.VALUES] = value0;
      words[way + Way.VALUES + 1] = value1;
      words[way + Way.VALUES + 2] = value2;
      words[way + Way.VALUES + 3] = value3;
      words[way + Way.VALUES + 4] = value4;
      words[way + Way.VALUES + 5] = value5;
    }
    words[set] = sequence + 2;
  }

  /** Drops every line that agrees with the words in the bits of their masks. */
  invalidate(key: number, keyMask: number, owner: number, ownerMask: number, tag: number, tagMask: number): void {
    if (!this.#on) return;
    silent.add(this.#kernel, this.#epochAt, 1);
    for (let i = 0; i < setCount; i++) this.#invalidateSet(this.#sets + i * setWords, key, keyMask, owner, ownerMask, tag, tagMask);
    silent.add(this.#kernel, this.generationAt * 4, 1);
  }

  /** Looking without the lock is enough, as in the IOTLB: a filler either sees the new epoch or still holds the set. */
  #invalidateSet(set: number, key: number, keyMask: number, owner: number, ownerMask: number, tag: number, tagMask: number): void {
    const kernel = this.#kernel;
    const words = kernel.words;
    const agrees = (way: number): boolean =>
      words[way + Way.OWNER]! < 0 && ((words[way]! ^ key) & keyMask) === 0 && ((words[way + Way.OWNER]! ^ owner) & ownerMask) === 0 && ((words[way + Way.TAG]! ^ tag) & tagMask) === 0;
    for (;;) {
      const sequence = silent.load(kernel, set * 4);
      if ((sequence & 1) !== 0) continue;
      const first = set + firstWay;
      if (!agrees(first) && !agrees(first + wayWords)) return;
      if (!this.#tryLock(set, sequence)) continue;
      for (let way = first; way < set + setWords; way += wayWords) if (agrees(way)) poke(kernel, (way + Way.OWNER) * 4, 0);
      silent.store(kernel, set * 4, sequence + 2);
      return;
    }
  }

  /** The way of the same line if there is one, else a free one, else the next victim; the set is locked. */
  #place(set: number, key: number, owner: number): number {
    const words = this.#kernel.words;
    let free = -1;
    for (let way = set + firstWay; way < set + setWords; way += wayWords) {
      if (words[way] === key && words[way + Way.OWNER] === (valid | owner)) return way;
      if (words[way + Way.OWNER]! >= 0) free = way;
    }
    if (free >= 0) return free;
    const victim = words[set + victimWord]!;
    words[set + victimWord] = (victim + 1) & (waysPerSet - 1);
    return set + firstWay + victim * wayWords;
  }

  #tryLock(set: number, sequence: number): boolean {
    return (sequence & 1) === 0 && silent.compareExchange(this.#kernel, set * 4, sequence, sequence + 1) === sequence;
  }

  #set(key: number, owner: number): number {
    return this.#sets + ((key ^ (key >>> 3) ^ (owner * 13)) & (setCount - 1)) * setWords;
  }
}

/** A line as an oracle reads it. */
export interface TaggedLine {
  readonly key: number;
  readonly owner: number;
  readonly tag: number;
  /** The first value and the third. */
  readonly value0: number;
  readonly value2: number;
}

/** Every line, as no point: for oracles. */
export function taggedLines(kernel: Memory, cache: Ref<'TaggedCache'>): TaggedLine[] {
  const found: TaggedLine[] = [];
  if (cache === NULL) return found;
  const sets = TaggedCache.sets.elementAddress(kernel, cache, 0);
  for (let set = sets; set < sets + setCount * setWords * 4; set += setWords * 4) {
    for (let at = set + firstWay * 4; at < set + setWords * 4; at += wayWords * 4) {
      const owner = peek(kernel, at + Way.OWNER * 4);
      if (owner >= 0) continue;
      found.push({ key: peek(kernel, at), owner: owner & ~valid, tag: peek(kernel, at + Way.TAG * 4), value0: peek(kernel, at + Way.VALUES * 4), value2: peek(kernel, at + Way.VALUES * 4 + 8) });
    }
  }
  return found;
}
