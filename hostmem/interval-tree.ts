/**
 * Intervals `[start, last]` of unsigned 64-bit numbers, found by overlap: areas by IOVA, pinned ranges by page index.
 *
 * A treap in the order of `start`, each node with the greatest `last` below it (the kernel's interval tree with a heap order
 * instead of colours: the priority is a hash of the interval, so that the same intervals always make the same tree). Intervals
 * may overlap and repeat; a tree whose intervals must not is its owner's affair. It is always used under its owner's lock: nodes
 * are touched silently. Every operation goes through the root word, and every change writes it, so that whoever lacks the lock
 * that `intervalTree.under('lock')` names is seen; without a guard each of these is a point. Numbers are (high, low) pairs.
 */
import { mix32 } from './labels.ts';
import type { Memory } from './memory.ts';
import { NULL, type Ref } from './object.ts';
import { Field, GuardedWord, object, ref, u32, Word, type FieldKind, type Place } from './struct.ts';
import { big, isBelow } from './u64.ts';

const Node = object('IntervalNode', {
  startHigh: u32,
  startLow: u32,
  lastHigh: u32,
  lastLow: u32,
  greatestHigh: u32,
  greatestLow: u32,
  priority: u32,
  left: ref('IntervalNode'),
  right: ref('IntervalNode'),
  parent: ref('IntervalNode'),
  value: u32,
});
export type IntervalNode = Ref<'IntervalNode'>;

/** The tree within its owner's record. */
export class IntervalTree extends Field {
  readonly #root: Word<IntervalNode> | GuardedWord<IntervalNode>;

  constructor(place: Place, guard: string | null) {
    super(place);
    this.#root = guard === null ? new Word<IntervalNode>(place) : new GuardedWord<IntervalNode>(place, guard);
  }

  /** Adds an interval, behind those with the same start. `NULL` when kernel memory is full. */
  insert(memory: Memory, at: number, startHigh: number, startLow: number, lastHigh: number, lastLow: number, value: Ref): IntervalNode {
    if (isBelow(lastHigh, lastLow, startHigh, startLow)) throw new Error(`${this.name}: an interval ends before it starts`);
    const root = this.#root.read(memory, at);
    const node = Node.tryCreate(memory);
    if (node === NULL) return node;
    Node.startHigh.poke(memory, node, startHigh);
    Node.startLow.poke(memory, node, startLow);
    Node.lastHigh.poke(memory, node, lastHigh);
    Node.lastLow.poke(memory, node, lastLow);
    Node.greatestHigh.poke(memory, node, lastHigh);
    Node.greatestLow.poke(memory, node, lastLow);
    Node.priority.poke(memory, node, mix32(mix32(mix32(startLow) ^ startHigh) ^ lastLow));
    Node.value.poke(memory, node, value);
    if (root !== NULL) linkBelow(memory, root, node);
    this.#root.write(memory, at, root === NULL ? node : raise(memory, root, node));
    return node;
  }

  /** Takes the interval out and frees its node. */
  remove(memory: Memory, at: number, node: IntervalNode): void {
    const root = sink(memory, this.#root.read(memory, at), node);
    const parent = Node.parent.peek(memory, node);
    replaceChild(memory, parent, node, NULL);
    Node.free(memory, node);
    widenAncestors(memory, parent);
    this.#root.write(memory, at, root === node ? NULL : root);
  }

  /** Of the intervals that overlap `[start, last]`, the one with the lowest start; `NULL` if there is none. */
  first(memory: Memory, at: number, startHigh: number, startLow: number, lastHigh: number, lastLow: number): IntervalNode {
    const root = this.#root.read(memory, at);
    return reaches(memory, root, startHigh, startLow) ? firstBelow(memory, root, startHigh, startLow, lastHigh, lastLow) : NULL;
  }

  /** The interval behind `node`, in ascending order of start, that overlaps `[start, last]`; `NULL` if there is none. */
  next(memory: Memory, at: number, node: IntervalNode, startHigh: number, startLow: number, lastHigh: number, lastLow: number): IntervalNode {
    this.#root.read(memory, at);
    let here = node;
    let right = Node.right.peek(memory, here);
    for (;;) {
      if (reaches(memory, right, startHigh, startLow)) return firstBelow(memory, right, startHigh, startLow, lastHigh, lastLow);
      let from: IntervalNode;
      do {
        from = here;
        here = Node.parent.peek(memory, here);
        if (here === NULL) return NULL;
        right = Node.right.peek(memory, here);
      } while (from === right);
      if (startsAfter(memory, here, lastHigh, lastLow)) return NULL;
      if (endsAtOrAfter(memory, here, startHigh, startLow)) return here;
    }
  }

  isEmpty(memory: Memory, at: number): boolean {
    return this.#root.read(memory, at) === NULL;
  }

  /** Frees all nodes; what they named is the owner's to free. */
  clear(memory: Memory, at: number): void {
    let node = this.#root.read(memory, at);
    while (node !== NULL) {
      const left = Node.left.peek(memory, node);
      const child = left !== NULL ? left : Node.right.peek(memory, node);
      if (child === NULL) {
        const parent = Node.parent.peek(memory, node);
        replaceChild(memory, parent, node, NULL);
        Node.free(memory, node);
        node = parent;
      } else node = child;
    }
    this.#root.write(memory, at, NULL);
  }

  startHigh(memory: Memory, node: IntervalNode): number {
    return Node.startHigh.peek(memory, node);
  }
  startLow(memory: Memory, node: IntervalNode): number {
    return Node.startLow.peek(memory, node);
  }
  lastHigh(memory: Memory, node: IntervalNode): number {
    return Node.lastHigh.peek(memory, node);
  }
  lastLow(memory: Memory, node: IntervalNode): number {
    return Node.lastLow.peek(memory, node);
  }
  /** Whether the whole interval lies in `[start, last]`. */
  isWithin(memory: Memory, node: IntervalNode, startHigh: number, startLow: number, lastHigh: number, lastLow: number): boolean {
    if (isBelow(Node.startHigh.peek(memory, node), Node.startLow.peek(memory, node), startHigh, startLow)) return false;
    return !isBelow(lastHigh, lastLow, Node.lastHigh.peek(memory, node), Node.lastLow.peek(memory, node));
  }
  /** What the interval was inserted with. */
  value<T extends string = string>(memory: Memory, node: IntervalNode): Ref<T> {
    return Node.value.peek(memory, node) as Ref<T>;
  }

  /** Throws unless heap order, parents and greatest lasts are right; returns how many nodes there are. For tests and oracles. */
  audit(memory: Memory, at: number): number {
    const root = this.#root.peek(memory, at) as IntervalNode;
    if (root !== NULL && Node.parent.peek(memory, root) !== NULL) throw new Error(`${this.name}: the root has a parent`);
    return auditBelow(memory, root, this.name);
  }
}

/** A tree within a record; all zero is the empty tree. */
export const intervalTree: FieldKind<IntervalTree> & { under(guard: string): FieldKind<IntervalTree> } = {
  words: 1,
  bind: (place) => new IntervalTree(place, null),
  /** The lock under which it is used: of the same record, or `ref.lock` as in `u32.under`. */
  under: (guard) => ({ words: 1, bind: (place) => new IntervalTree(place, guard) }),
};

function startsAfter(memory: Memory, node: IntervalNode, high: number, low: number): boolean {
  return isBelow(high, low, Node.startHigh.peek(memory, node), Node.startLow.peek(memory, node));
}

function endsAtOrAfter(memory: Memory, node: IntervalNode, high: number, low: number): boolean {
  return !isBelow(Node.lastHigh.peek(memory, node), Node.lastLow.peek(memory, node), high, low);
}

/** Whether anything in the tree below ends at or after the number. */
function reaches(memory: Memory, node: IntervalNode, high: number, low: number): boolean {
  return node !== NULL && !isBelow(Node.greatestHigh.peek(memory, node), Node.greatestLow.peek(memory, node), high, low);
}

/** The first overlap below a node that `reaches` the start (`interval_tree_subtree_search`). */
function firstBelow(memory: Memory, top: IntervalNode, startHigh: number, startLow: number, lastHigh: number, lastLow: number): IntervalNode {
  let node = top;
  for (;;) {
    const left = Node.left.peek(memory, node);
    if (reaches(memory, left, startHigh, startLow)) {
      // If this side has no overlap, its greatest last belongs to a start behind the range: then nothing overlaps.
      node = left;
      continue;
    }
    if (startsAfter(memory, node, lastHigh, lastLow)) return NULL;
    if (endsAtOrAfter(memory, node, startHigh, startLow)) return node;
    node = Node.right.peek(memory, node);
    if (!reaches(memory, node, startHigh, startLow)) return NULL;
  }
}

/** Hangs a new node under the leaf where its start belongs; all above it learn of its last. */
function linkBelow(memory: Memory, root: IntervalNode, node: IntervalNode): void {
  const high = Node.startHigh.peek(memory, node);
  const low = Node.startLow.peek(memory, node);
  let here = root;
  for (;;) {
    widenBy(memory, here, node);
    const side = startsAfter(memory, here, high, low) ? Node.left : Node.right;
    const child = side.peek(memory, here);
    if (child === NULL) {
      side.poke(memory, here, node);
      Node.parent.poke(memory, node, here);
      return;
    }
    here = child;
  }
}

/** Rotates a node up to where its priority belongs; returns the root. */
function raise(memory: Memory, root: IntervalNode, node: IntervalNode): IntervalNode {
  for (;;) {
    const parent = Node.parent.peek(memory, node);
    if (parent === NULL) return node;
    if (!hasPriority(memory, node, parent)) return root;
    rotateUp(memory, node);
  }
}

/** Rotates a node down until it is a leaf; returns the root (the node itself if it is alone). */
function sink(memory: Memory, root: IntervalNode, node: IntervalNode): IntervalNode {
  let top = root;
  for (;;) {
    const left = Node.left.peek(memory, node);
    const right = Node.right.peek(memory, node);
    const child = left === NULL ? right : right === NULL || hasPriority(memory, left, right) ? left : right;
    if (child === NULL) return top;
    rotateUp(memory, child);
    if (top === node) top = child;
  }
}

function hasPriority(memory: Memory, a: IntervalNode, b: IntervalNode): boolean {
  return Node.priority.peek(memory, a) >>> 0 > Node.priority.peek(memory, b) >>> 0;
}

/** Swaps a node with its parent, keeping the order; both greatest lasts are right afterwards. */
function rotateUp(memory: Memory, node: IntervalNode): void {
  const parent = Node.parent.peek(memory, node);
  const above = Node.parent.peek(memory, parent);
  const isLeft = Node.left.peek(memory, parent) === node;
  const inner = isLeft ? Node.right : Node.left;
  const outer = isLeft ? Node.left : Node.right;
  const moved = inner.peek(memory, node);
  outer.poke(memory, parent, moved);
  if (moved !== NULL) Node.parent.poke(memory, moved, parent);
  inner.poke(memory, node, parent);
  Node.parent.poke(memory, parent, node);
  Node.parent.poke(memory, node, above);
  replaceChild(memory, above, parent, node);
  widen(memory, parent);
  widen(memory, node);
}

function replaceChild(memory: Memory, parent: IntervalNode, child: IntervalNode, replacement: IntervalNode): void {
  if (parent === NULL) return;
  const side = Node.left.peek(memory, parent) === child ? Node.left : Node.right;
  side.poke(memory, parent, replacement);
}

/** Sets a node's greatest last from its own and its children's. */
function widen(memory: Memory, node: IntervalNode): void {
  Node.greatestHigh.poke(memory, node, Node.lastHigh.peek(memory, node));
  Node.greatestLow.poke(memory, node, Node.lastLow.peek(memory, node));
  widenBy(memory, node, Node.left.peek(memory, node));
  widenBy(memory, node, Node.right.peek(memory, node));
}

function widenBy(memory: Memory, node: IntervalNode, child: IntervalNode): void {
  if (child === NULL) return;
  const high = Node.greatestHigh.peek(memory, child);
  const low = Node.greatestLow.peek(memory, child);
  if (!isBelow(Node.greatestHigh.peek(memory, node), Node.greatestLow.peek(memory, node), high, low)) return;
  Node.greatestHigh.poke(memory, node, high);
  Node.greatestLow.poke(memory, node, low);
}

function widenAncestors(memory: Memory, node: IntervalNode): void {
  for (let here = node; here !== NULL; here = Node.parent.peek(memory, here)) widen(memory, here);
}

function auditBelow(memory: Memory, node: IntervalNode, name: string): number {
  if (node === NULL) return 0;
  let count = 1;
  let greatest = big(Node.lastHigh.peek(memory, node), Node.lastLow.peek(memory, node));
  for (const child of [Node.left.peek(memory, node), Node.right.peek(memory, node)]) {
    if (child === NULL) continue;
    if (Node.parent.peek(memory, child) !== node) throw new Error(`${name}: a child has another parent`);
    if (hasPriority(memory, child, node)) throw new Error(`${name}: a child has priority over its parent`);
    count += auditBelow(memory, child, name);
    const below = big(Node.greatestHigh.peek(memory, child), Node.greatestLow.peek(memory, child));
    if (below > greatest) greatest = below;
  }
  if (greatest !== big(Node.greatestHigh.peek(memory, node), Node.greatestLow.peek(memory, node))) {
    throw new Error(`${name}: a greatest last is wrong`);
  }
  return count;
}
