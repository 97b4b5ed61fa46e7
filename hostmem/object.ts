/**
 * Kernel objects: blocks of shared memory with a header, reached through references that know their generation.
 *
 * A reference is one signed word: 20 bits of address (in units of 64 bytes) and 12 bits of generation. Every access through a
 * field of an object type compares the generation and the type with the block's header, in every mode: a use after free
 * is seen at the access, not by its consequences. Blocks come in powers of two from 64 bytes; the allocator's lock is a
 * leaf, so allocation is no choice point. In a free run a thread keeps some of the blocks that it freed for itself, as the slab
 * allocator does for each CPU. Generations wrap after 4096 reuses of one block.
 */
import { fill, lockLeaf, peek, poke, silent, unlockLeaf } from './atomics.ts';
import { hashText } from './labels.ts';
import type { Memory } from './memory.ts';

declare const target: unique symbol;
/** A reference to a live object of type `T`, or `NULL`. */
export type Ref<T extends string = string> = number & { readonly [target]: T };

/** The reference to nothing. */
export const NULL = 0 as Ref<never>;

const unit = 64;
const addressMask = 0xfffff;
const generationShift = 20;
const typeMask = 0x7fff;
/** Poison of freed blocks, as the slab allocator's: easy to recognise in a dump. */
export const poison = 0x6b6b6b6b;

/**
 * Block: word 0 `generation << 20 | type << 1 | live`, word 1 `class << 26`, and behind it the next free unit, or of a live object the number of its own type where it
 * has its type from the one that it begins as; fields from word 2.
 */
export const headerBytes = 8;
const smallestClass = 6;
const classes = 16;
/** The most that the fields of one object may take, in bytes. */
export const largestBytes = (1 << (smallestClass + classes - 1)) - headerBytes;

/** Heap words at the start of kernel memory: lock, bump pointer (bytes), first block, then a free list per class, and as many of the type that keeps its blocks. */
const heapLock = 64;
const heapTop = 68;
const heapBase = 72;
const freeHeads = 128;
/** What a thread keeps for itself of the free blocks of one size, at most. */
const mostOwnBytes = 4096;
/** First byte that the heap may hand out. */
export const heapStart = 512;

/** An access through a reference whose object is gone, or is of another type. */
export class UseAfterFree extends Error {
  override readonly name = 'UseAfterFree';
}

/** Sets up the heap of an empty kernel memory; blocks are taken from `[start, end of memory)`. */
export function initialiseHeap(memory: Memory, start: number = heapStart): void {
  poke(memory, heapLock, 0);
  poke(memory, heapTop, Math.ceil(start / unit) * unit);
  poke(memory, heapBase, peek(memory, heapTop));
}

/** Names of the types that this thread's modules declare, for messages. */
const typeNames = new Map<number, string>();

/** The 15-bit number of a type in block headers. */
export function typeNumber(name: string): number {
  const type = (hashText(name) & typeMask) || 1;
  typeNames.set(type, name);
  return type;
}

/** From now on blocks of the type are of no other type ever. There can be one. */
export function keepTypesafe(type: number): void {
  if (typesafeType !== 0 && typesafeType !== type) throw new Error(`${typeNames.get(typesafeType)} is the type that keeps its blocks; there is room for one`);
  typesafeType = type;
}
let typesafeType = 0;

const listOf = (type: number, blockClass: number): number => blockClass - smallestClass + (type === typesafeType ? classes : 0);

/** Takes a zeroed block for `sizeBytes` of fields. Throws when the heap is full: give the host more kernel memory. */
export function allocate(memory: Memory, type: number, sizeBytes: number, ownType: number = 0): Ref {
  const ref = tryAllocate(memory, type, sizeBytes, ownType);
  if (ref === NULL) throw new Error(`kernel memory is full (${memory.sizeBytes} bytes); give the host more`);
  return ref;
}

/** As `allocate`, but `NULL` when the heap is full, for callers that can say ENOMEM. */
export function tryAllocate(memory: Memory, type: number, sizeBytes: number, ownType: number = 0): Ref {
  const blockClass = Math.max(smallestClass, 32 - Math.clz32(sizeBytes + headerBytes - 1));
  if (blockClass >= smallestClass + classes) throw new Error(`an object of ${sizeBytes} bytes is larger than the largest block`);
  const list = listOf(type, blockClass);
  const own = memory.control === null ? memory.ownBlocks[list]?.pop() : undefined;
  const at = own ?? takeBlock(memory, blockClass, list);
  if (at === 0) return NULL;
  const generation = peek(memory, at) >>> generationShift;
  fill(memory, at + headerBytes, (1 << blockClass) - headerBytes, 0);
  poke(memory, at + 4, (blockClass << 26) | ownType);
  poke(memory, at, (generation << generationShift) | (type << 1) | 1);
  return ((generation << generationShift) | (at / unit)) as Ref;
}

/** A block that is on nobody's list any more, with the generation that it is to have; 0 when the heap is full. */
function takeBlock(memory: Memory, blockClass: number, list: number): number {
  const head = freeHeads + list * 4;
  lockLeaf(memory, heapLock);
  let at = peek(memory, head) * unit;
  if (at !== 0) poke(memory, head, peek(memory, at + 4) & addressMask);
  else {
    at = peek(memory, heapTop);
    if (at + (1 << blockClass) > memory.sizeBytes) {
      unlockLeaf(memory, heapLock);
      return 0;
    }
    // Who walks the heap finds the next block by this one's size.
    poke(memory, at + 4, blockClass << 26);
    poke(memory, heapTop, at + (1 << blockClass));
  }
  unlockLeaf(memory, heapLock);
  return at;
}

/** Gives a block back: poisons it and moves its generation on. */
export function free(memory: Memory, ref: Ref, type: number): void {
  const at = addressOf(memory, ref, type);
  const blockClass = peek(memory, at + 4) >>> 26;
  const dead = (((ref >>> generationShift) + 1) << generationShift) | (type << 1);
  const live = (ref & ~addressMask) | (type << 1) | 1;
  const found = silent.compareExchange(memory, at, live, dead);
  if (found !== live) throw dangling(ref, found, type);
  fill(memory, at + headerBytes, (1 << blockClass) - headerBytes, poison);
  memory.control?.freed?.(memory, at, 1 << blockClass);
  const list = listOf(type, blockClass);
  if (memory.control !== null || !keepBlock(memory, blockClass, list, at)) putBlock(memory, blockClass, list, at);
}

/** Keeps a block for this thread, if it has not enough of them. */
function keepBlock(memory: Memory, blockClass: number, list: number, at: number): boolean {
  const own = (memory.ownBlocks[list] ??= []);
  if (own.length >= mostOwnBytes >>> blockClass) return false;
  own.push(at);
  return true;
}

function putBlock(memory: Memory, blockClass: number, list: number, at: number): void {
  const head = freeHeads + list * 4;
  lockLeaf(memory, heapLock);
  poke(memory, at + 4, (blockClass << 26) | peek(memory, head));
  poke(memory, head, at / unit);
  unlockLeaf(memory, heapLock);
}

/** The byte address of the object, having compared generation and type. Throws `UseAfterFree`. */
export function addressOf(memory: Memory, ref: number, type: number): number {
  const at = (ref & addressMask) * unit;
  const header = memory.words[at >>> 2]!;
  if (header === ((ref & ~addressMask) | (type << 1) | 1)) return at;
  throw dangling(ref, header, type);
}

/** As `addressOf`, for who looks without a lock: 0 unless there is such an object at this moment. Any number may be asked for. */
export function addressIfLive(memory: Memory, ref: number, type: number): number {
  const at = (ref & addressMask) * unit;
  return memory.words[at >>> 2] === ((ref & ~addressMask) | (type << 1) | 1) ? at : 0;
}

/** How many objects are live: what leaks is the difference between two moments of rest. Walks the heap. */
export function liveObjects(memory: Memory): number {
  let live = 0;
  const top = peek(memory, heapTop);
  for (let at = peek(memory, heapBase); at < top; at += 1 << (peek(memory, at + 4) >>> 26)) live += peek(memory, at) & 1;
  return live;
}

/** A block of the heap. */
export interface Block {
  readonly ref: Ref;
  readonly type: number;
  /** Byte address. */
  readonly at: number;
  readonly sizeBytes: number;
}

/** The own type of what is live in a block. */
const typeOfBlock = (memory: Memory, at: number): number => (peek(memory, at + 4) & typeMask) || ((peek(memory, at) >>> 1) & typeMask);

/** All live blocks, in the order of their addresses: walks the heap. */
export function liveBlocks(memory: Memory): Block[] {
  const found: Block[] = [];
  const top = peek(memory, heapTop);
  for (let at = peek(memory, heapBase), sizeBytes = 0; at < top; at += sizeBytes) {
    const header = peek(memory, at);
    sizeBytes = 1 << (peek(memory, at + 4) >>> 26);
    if ((header & 1) === 0) continue;
    found.push({ ref: ((header & ~addressMask) | (at / unit)) as Ref, type: typeOfBlock(memory, at), at, sizeBytes });
  }
  return found;
}

/** The live block that a byte address lies in, or null: walks the heap, for reports. */
export function blockAt(memory: Memory, address: number): { readonly at: number; readonly type: number } | null {
  const top = peek(memory, heapTop);
  for (let at = peek(memory, heapBase); at < top; ) {
    const end = at + (1 << (peek(memory, at + 4) >>> 26));
    if (address < end) return address >= at && (peek(memory, at) & 1) !== 0 ? { at, type: typeOfBlock(memory, at) } : null;
    at = end;
  }
  return null;
}

function dangling(ref: number, header: number, type: number): UseAfterFree {
  const expected = typeNames.get(type) ?? `type #${type}`;
  if (ref === NULL) return new UseAfterFree(`a null reference to ${expected} was followed`);
  const actual = (header >>> 1) & typeMask;
  const found = (header & 1) === 0 ? 'is free' : actual === type ? 'was reused' : `is of type ${typeNames.get(actual) ?? `#${actual}`}`;
  return new UseAfterFree(`reference 0x${ref.toString(16)} to ${expected}: the block ${found}`);
}
