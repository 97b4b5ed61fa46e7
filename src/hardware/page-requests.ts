/**
 * Page requests of functions (PRI): a function that finds a page not there asks for it; the request waits in its unit's queue until software takes it, and
 * every group of requests is answered once. Groups here have one request; what a queue has no room for is not asked: there is no overflow.
 *
 *   idle -> asked      by the function
 *   asked -> idle      by the answer, which the unit carries to the function
 */
import { lockLeaf, unlockLeaf } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, u32, words } from '#hostmem/struct';
import { pageAnswered, pageRequested } from './events.ts';
import { PciFunction } from './function.ts';
import { IommuUnit } from './unit.ts';

const ringLength = 64;
const entryWords = 4;
/** In place of a PASID. */
const withoutPasid = -1;

/** The unit's queue (PQA, PQH, PQT). */
export const PageRequests = object('PageRequests', {
  /** How many were taken by software, and how many are in the ring or were, ever. */
  head: u32,
  tail: u32,
  /** The interrupt: how many came. The one point of a request. */
  came: u32,
  /** Leaf lock of the functions that append. */
  lock: u32,
  entries: words(ringLength * entryWords),
});

/** A request as it lies in the queue. */
export interface QueuedRequest {
  readonly rid: number;
  /** Null: without a PASID. */
  readonly pasid: number | null;
  readonly group: number;
  /** Number of the page, its low 32 bits. */
  readonly page: number;
  /** `Access` bits. */
  readonly access: number;
}

/**
 * The function asks for a page; its unit has a queue. Returns the group's number (9 bits in hardware; here each has its own), or 0 where the queue has no
 * room: the function has no credit left, and does not ask.
 */
export function askForPage(kernel: Memory, pciFunction: Ref<'PciFunction'>, pasid: number | null, page: number, access: number): number {
  const unit = PciFunction.unit.peek(kernel, pciFunction);
  const queue = IommuUnit.pageRequests.peek(kernel, unit);
  if (queue === NULL) throw new RangeError('the unit before the function takes no page requests');
  const group = PciFunction.nextGroup.peek(kernel, pciFunction);
  const rid = PciFunction.rid.peek(kernel, pciFunction);
  const lock = PageRequests.lock.address(kernel, queue);
  lockLeaf(kernel, lock);
  const tail = PageRequests.tail.peek(kernel, queue);
  const hasRoom = tail - PageRequests.head.peek(kernel, queue) < ringLength;
  if (hasRoom) {
    pageRequested.emit(kernel, rid, group, pasid ?? withoutPasid, page);
    const at = (tail % ringLength) * entryWords;
    [rid | (access << 16), pasid ?? withoutPasid, group, page].forEach((word, index) => PageRequests.entries.set(kernel, queue, at + index, word));
    PageRequests.tail.poke(kernel, queue, tail + 1);
  }
  unlockLeaf(kernel, lock);
  if (!hasRoom) return 0;
  PciFunction.nextGroup.poke(kernel, pciFunction, group + 1);
  PageRequests.came.add(kernel, queue, 1);
  return group;
}

/** The oldest of the first `count` requests that ever came, which stays where it is; null when all those are taken. Software alone moves the head. */
export function oldestRequest(kernel: Memory, queue: Ref<'PageRequests'>, count: number): QueuedRequest | null {
  const head = PageRequests.head.peek(kernel, queue);
  if (head === count) return null;
  return requestAt(kernel, queue, head);
}

/** All that software has not taken, oldest first; as no point. */
export function requestsIn(kernel: Memory, queue: Ref<'PageRequests'>): QueuedRequest[] {
  const found: QueuedRequest[] = [];
  const tail = PageRequests.tail.peek(kernel, queue);
  for (let number = PageRequests.head.peek(kernel, queue); number !== tail; number++) found.push(requestAt(kernel, queue, number));
  return found;
}

function requestAt(kernel: Memory, queue: Ref<'PageRequests'>, number: number): QueuedRequest {
  const word = (index: number): number => PageRequests.entries.get(kernel, queue, (number % ringLength) * entryWords + index);
  const pasid = word(1);
  return { rid: word(0) & 0xffff, pasid: pasid === withoutPasid ? null : pasid, group: word(2), page: word(3), access: word(0) >>> 16 };
}

/** How many requests ever came into the queue: of those told of by now, all. */
export function requestsSoFar(kernel: Memory, queue: Ref<'PageRequests'>): number {
  const lock = PageRequests.lock.address(kernel, queue);
  lockLeaf(kernel, lock);
  const came = PageRequests.tail.peek(kernel, queue);
  unlockLeaf(kernel, lock);
  return came;
}

/** Software has done with the oldest. */
export function takeOldest(kernel: Memory, queue: Ref<'PageRequests'>): void {
  PageRequests.head.poke(kernel, queue, PageRequests.head.peek(kernel, queue) + 1);
}

/** The unit hands an answer to the function. */
export function deliverAnswer(kernel: Memory, rid: number, group: number, code: number): void {
  pageAnswered.emit(kernel, rid, group, code);
}
