/**
 * Ids as the kernel's xarray gives them to iommufd: from 1, lowest free one first, a freed one at once again
 * (SEMANTICS A5, A6, A8, A11; `struct xarray` with `XA_FLAGS_ALLOC1`).
 *
 *   free      -> reserved   reserve      taken, a lookup finds nothing
 *   reserved  -> published  publish      a lookup finds the object
 *   reserved, published -> free          erase
 *   reserved, published -> tombstone     tombstone: taken for ever, a lookup finds nothing
 *
 * A radix tree of 64-slot nodes that is as small as the ids in it allow: erasing frees what became empty. The table has a
 * lock of its own (`xa_lock`), the only thing here that is a point; the nodes are touched silently under it. It does not
 * know what an id names.
 */
import { lockLeaf, peek, poke, unlockLeaf } from './atomics.ts';
import { Mutex } from './locks.ts';
import type { Memory } from './memory.ts';
import { addressOf, NULL, type Ref } from './object.ts';
import { Field, object, u32, words, type FieldKind, type Place } from './struct.ts';

const slotBits = 6;
const slotCount = 1 << slotBits;
/** Sits in the slot of a tombstone: a generation of address 0, which is no object's. */
const buried = (1 << 20) as Ref;

/**
 * One node. At level 0 the slots hold references and a set bit of `full` is a taken id; above, they hold nodes, and a
 * set bit is a node without a free id. `used` counts taken ids, or nodes. The heap's 64 MiB hold nodes for fewer than 2^24 ids, so
 * that an id always has its 31 bits.
 */
const IdNode = object('IdNode', { level: u32, used: u32, full: words(2), slots: words<Ref>(slotCount) });
type IdNode = Ref<'IdNode'>;

/** The table within its owner's record. Those without `Locked` take the lock themselves. */
export class IdTable extends Field {
  readonly #lock: Mutex;

  /** Its lock is a leaf: no point, and no point may be reached under it. */
  readonly #isLeaf: boolean;

  constructor(place: Place, isLeaf: boolean) {
    super(place);
    this.#lock = new Mutex(place);
    this.#isLeaf = isLeaf;
  }

  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }

  /** A spin lock; where schedules are explored, a point unless it is a leaf. */
  acquire(memory: Memory, at: number): void {
    if (this.#isLeaf || memory.control === null) lockLeaf(memory, this.address(memory, at));
    else this.#lock.acquire(memory, at);
  }
  release(memory: Memory, at: number): void {
    if (this.#isLeaf || memory.control === null) unlockLeaf(memory, this.address(memory, at));
    else this.#lock.release(memory, at);
  }

  /** Takes the lowest free id; 0 when kernel memory is full. */
  reserve(memory: Memory, at: number): number {
    this.acquire(memory, at);
    const id = this.reserveLocked(memory, at);
    this.release(memory, at);
    return id;
  }
  /** From now on a lookup of the reserved id finds `ref`. */
  publish(memory: Memory, at: number, id: number, ref: Ref): void {
    this.acquire(memory, at);
    this.publishLocked(memory, at, id, ref);
    this.release(memory, at);
  }
  /** Frees the id; returns what it named, `NULL` if it was only reserved. */
  erase(memory: Memory, at: number, id: number): Ref {
    this.acquire(memory, at);
    const ref = this.eraseLocked(memory, at, id);
    this.release(memory, at);
    return ref;
  }
  /** Keeps the id taken and its lookups empty until the table goes; returns what it named. */
  tombstone(memory: Memory, at: number, id: number): Ref {
    this.acquire(memory, at);
    const ref = this.tombstoneLocked(memory, at, id);
    this.release(memory, at);
    return ref;
  }
  /** What a published id names, else `NULL`. */
  get(memory: Memory, at: number, id: number): Ref {
    this.acquire(memory, at);
    const ref = this.getLocked(memory, at, id);
    this.release(memory, at);
    return ref;
  }
  /** The lowest published id above `after`, or 0. */
  next(memory: Memory, at: number, after: number): number {
    this.acquire(memory, at);
    const id = this.nextLocked(memory, at, after);
    this.release(memory, at);
    return id;
  }

  reserveLocked(memory: Memory, at: number): number {
    const rootAt = this.#rootAt(memory, at);
    const root = growIfFull(memory, peek(memory, rootAt) as IdNode);
    if (root === NULL) return 0;
    const index = reserveIn(memory, root);
    poke(memory, rootAt, index < 0 ? shrink(memory, root) : root);
    return index + 1;
  }

  publishLocked(memory: Memory, at: number, id: number, ref: Ref): void {
    const leaf = this.#takenLeaf(memory, at, id);
    const slot = (id - 1) & (slotCount - 1);
    if (ref === NULL || IdNode.slots.get(memory, leaf, slot) !== NULL) throw new Error(`${this.name}: id ${id} cannot be published`);
    IdNode.slots.set(memory, leaf, slot, ref);
  }

  eraseLocked(memory: Memory, at: number, id: number): Ref {
    const leaf = this.#takenLeaf(memory, at, id);
    const ref = IdNode.slots.get(memory, leaf, (id - 1) & (slotCount - 1));
    if (ref === buried) throw new Error(`${this.name}: id ${id} is a tombstone`);
    const rootAt = this.#rootAt(memory, at);
    const root = peek(memory, rootAt) as IdNode;
    eraseIn(memory, root, id - 1);
    poke(memory, rootAt, shrink(memory, root));
    return ref;
  }

  tombstoneLocked(memory: Memory, at: number, id: number): Ref {
    const leaf = this.#takenLeaf(memory, at, id);
    const slot = (id - 1) & (slotCount - 1);
    const ref = IdNode.slots.get(memory, leaf, slot);
    IdNode.slots.set(memory, leaf, slot, buried);
    return ref === buried ? NULL : ref;
  }

  getLocked(memory: Memory, at: number, id: number): Ref {
    const leaf = this.#leafOf(memory, at, id);
    const ref = leaf === NULL ? NULL : IdNode.slots.get(memory, leaf, (id - 1) & (slotCount - 1));
    return ref === buried ? NULL : ref;
  }

  /**
   * What a published id named a moment ago, without the lock and as no point (`rcu_dereference`): `NULL` where it named nothing, and at times where the table
   * was changing. What comes may be gone already.
   */
  getUnlocked(memory: Memory, at: number, id: number): Ref {
    const index = id - 1;
    let node = peek(memory, this.#rootAt(memory, at));
    for (let level = -1; index >= 0; ) {
      const found = IdNode.addressIfLive(memory, node as IdNode);
      if (found === 0) break;
      const below = peek(memory, found + IdNode.level.offsetBytes);
      // Of the root, what is left of the index is more than a level has slots where the id is beyond the table.
      if (level >= 0 ? below !== level - 1 : below < 0 || below > 5 || index >>> (slotBits * below) >= slotCount) break;
      level = below;
      node = peek(memory, found + IdNode.slots.offsetBytes + ((index >>> (slotBits * level)) & (slotCount - 1)) * 4);
      if (level === 0) return node === buried ? NULL : (node as Ref);
    }
    return NULL;
  }

  nextLocked(memory: Memory, at: number, after: number): number {
    const root = peek(memory, this.#rootAt(memory, at)) as IdNode;
    return root === NULL || after >= 0x7fffffff ? 0 : nextIn(memory, root, after) + 1;
  }

  /** Whether no id is taken at all, none reserved and none a tombstone (`xa_empty`). */
  isEmptyLocked(memory: Memory, at: number): boolean {
    return peek(memory, this.#rootAt(memory, at)) === NULL;
  }

  /** How many ids are taken that name nothing and are no tombstones: somebody has yet to publish them. For oracles. */
  reservedLocked(memory: Memory, at: number): number {
    const root = peek(memory, this.#rootAt(memory, at)) as IdNode;
    return root === NULL ? 0 : reservedIn(memory, root);
  }

  /** Frees all nodes, whatever is in them; the table is empty then. Nobody else may be using it. */
  destroy(memory: Memory, at: number): void {
    const rootAt = this.#rootAt(memory, at);
    const root = peek(memory, rootAt) as IdNode;
    if (root !== NULL) freeBelow(memory, root);
    poke(memory, rootAt, NULL);
  }

  #rootAt(memory: Memory, at: number): number {
    return this.address(memory, at) + 4;
  }

  /** The node of level 0 that has, or would have, the id; `NULL` when there is none. Any number may be asked for. */
  #leafOf(memory: Memory, at: number, id: number): IdNode {
    let node = peek(memory, this.#rootAt(memory, at)) as IdNode;
    const index = id - 1;
    if (node === NULL || index < 0) return NULL;
    let shift = slotBits * IdNode.level.peek(memory, node);
    if (shift + slotBits < 32 && index >>> (shift + slotBits) !== 0) return NULL;
    for (; node !== NULL && shift > 0; shift -= slotBits) node = childOf(memory, node, (index >>> shift) & (slotCount - 1));
    return node;
  }

  #takenLeaf(memory: Memory, at: number, id: number): IdNode {
    const leaf = this.#leafOf(memory, at, id);
    if (leaf === NULL || !isFull(memory, leaf, (id - 1) & (slotCount - 1))) throw new Error(`${this.name}: id ${id} is not taken`);
    return leaf;
  }
}

/** A table of ids within a record, with its lock; all zero is the empty table. */
export const idTable: FieldKind<IdTable> = { words: 2, bind: (place) => new IdTable(place, false) };
/** The same for tables that Linux looks up without a lock (descriptors): taking the lock is no choice point. */
export const leafIdTable: FieldKind<IdTable> = { words: 2, bind: (place) => new IdTable(place, true) };

function createNode(memory: Memory, level: number): IdNode {
  const node = IdNode.tryCreate(memory);
  if (node !== NULL) IdNode.level.poke(memory, node, level);
  return node;
}

/** A root with a free id in it: the one there is, or a new one above it. `NULL` without memory. */
function growIfFull(memory: Memory, root: IdNode): IdNode {
  if (root === NULL) return createNode(memory, 0);
  if (firstFree(memory, root) < slotCount) return root;
  const above = createNode(memory, IdNode.level.peek(memory, root) + 1);
  if (above === NULL) return NULL;
  IdNode.slots.set(memory, above, 0, root);
  IdNode.used.poke(memory, above, 1);
  setFull(memory, above, 0, true);
  return above;
}

/** Takes the lowest free index below a node that is not full; negative, and nothing changed, without memory. */
function reserveIn(memory: Memory, node: IdNode): number {
  const slot = firstFree(memory, node);
  const level = IdNode.level.peek(memory, node);
  if (level === 0) {
    IdNode.used.poke(memory, node, IdNode.used.peek(memory, node) + 1);
    setFull(memory, node, slot, true);
    return slot;
  }
  const known = childOf(memory, node, slot);
  const child = known === NULL ? createNode(memory, level - 1) : known;
  if (child === NULL) return -1;
  const index = reserveIn(memory, child);
  if (index < 0) {
    if (known === NULL) IdNode.free(memory, child);
    return -1;
  }
  if (known === NULL) {
    IdNode.slots.set(memory, node, slot, child);
    IdNode.used.poke(memory, node, IdNode.used.peek(memory, node) + 1);
  }
  if (firstFree(memory, child) === slotCount) setFull(memory, node, slot, true);
  return (slot << (slotBits * level)) + index;
}

/** Frees a taken index, and the nodes below `node` that it leaves empty. */
function eraseIn(memory: Memory, node: IdNode, index: number): void {
  const slot = slotOf(memory, node, index);
  setFull(memory, node, slot, false);
  if (IdNode.level.peek(memory, node) > 0) {
    const child = childOf(memory, node, slot);
    eraseIn(memory, child, index);
    if (IdNode.used.peek(memory, child) > 0) return;
    IdNode.free(memory, child);
  }
  IdNode.slots.set(memory, node, slot, NULL);
  IdNode.used.poke(memory, node, IdNode.used.peek(memory, node) - 1);
}

/** The root without the levels that it no longer needs; `NULL` for an empty table. */
function shrink(memory: Memory, root: IdNode): IdNode {
  let node = root;
  while (node !== NULL && IdNode.used.peek(memory, node) <= 1) {
    const used = IdNode.used.peek(memory, node);
    const below = IdNode.level.peek(memory, node) > 0 ? childOf(memory, node, 0) : (NULL as IdNode);
    if (used === 1 && below === NULL) break;
    IdNode.free(memory, node);
    node = below;
  }
  return node;
}

/** The lowest index that is published and at least `from`, or -1. */
function nextIn(memory: Memory, node: IdNode, from: number): number {
  const level = IdNode.level.peek(memory, node);
  const span = slotCount ** level;
  for (let slot = Math.floor(from / span), least = from % span; slot < slotCount; slot++, least = 0) {
    const content = IdNode.slots.get(memory, node, slot);
    if (content === NULL || content === buried) continue;
    const within = level === 0 ? 0 : nextIn(memory, content as IdNode, least);
    if (within >= 0) return slot * span + within;
  }
  return -1;
}

function reservedIn(memory: Memory, node: IdNode): number {
  const isLeaf = IdNode.level.peek(memory, node) === 0;
  let count = 0;
  for (let slot = 0; slot < slotCount; slot++) {
    const content = IdNode.slots.get(memory, node, slot);
    if (!isLeaf && content !== NULL) count += reservedIn(memory, content as IdNode);
    if (isLeaf && content === NULL && isFull(memory, node, slot)) count++;
  }
  return count;
}

function freeBelow(memory: Memory, node: IdNode): void {
  for (let slot = 0; slot < slotCount && IdNode.level.peek(memory, node) > 0; slot++) {
    const child = childOf(memory, node, slot);
    if (child !== NULL) freeBelow(memory, child);
  }
  IdNode.free(memory, node);
}

function slotOf(memory: Memory, node: IdNode, index: number): number {
  return (index >>> (slotBits * IdNode.level.peek(memory, node))) & (slotCount - 1);
}

function childOf(memory: Memory, node: IdNode, slot: number): IdNode {
  return IdNode.slots.get(memory, node, slot) as IdNode;
}

/** The lowest slot whose bit of `full` is clear, or `slotCount`. */
function firstFree(memory: Memory, node: IdNode): number {
  const low = ~IdNode.full.get(memory, node, 0);
  if (low !== 0) return lowestBit(low);
  const high = ~IdNode.full.get(memory, node, 1);
  return high !== 0 ? 32 + lowestBit(high) : slotCount;
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function isFull(memory: Memory, node: IdNode, slot: number): boolean {
  return ((IdNode.full.get(memory, node, slot >>> 5) >>> (slot & 31)) & 1) === 1;
}

function setFull(memory: Memory, node: IdNode, slot: number, full: boolean): void {
  const bit = 1 << (slot & 31);
  const before = IdNode.full.get(memory, node, slot >>> 5);
  IdNode.full.set(memory, node, slot >>> 5, full ? before | bit : before & ~bit);
}
