/**
 * Page requests of functions (PRI): a function that finds a page not there asks for it; the request lies in its unit's queue until software takes it, and
 * every group of requests is answered once. Groups here have one request.
 *
 *   idle -> on its way          by the function
 *   on its way -> in the queue  by the unit (`request-arrival.ts`)
 *   on its way -> idle          by the unit, where the queue has no room: PRS.PRO is set, and until software clears it every request is answered at once, with
 *                               success, after which the function may ask again (VT-d specification 7.4; RISC-V's says the same of pqof)
 *   in the queue -> taken       by software
 *   taken -> idle               by software's answer, which the unit carries to the function
 *
 * What a function had asked for is ahead of its answer to an invalidation of its device TLB; a wait with PD, and a fence of RISC-V, is over when all that was ahead has come in.
 */
import { lockLeaf, Op, silent, unlockLeaf } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, words } from '#hostmem/struct';
import { pageAnswered, pageRequested } from './events.ts';
import { PciFunction } from './function.ts';
import { credit, giveBackGroup, takeGroup } from './request-groups.ts';
import { IommuUnit } from './unit.ts';

/** How many requests the queue has room for, which is the credit of each function too, as in Linux; and how many can be on their way. */
export const ringLength = credit;
export const mostOnTheWay = 32;
export const entryWords = 4;
/** In place of a PASID. */
const withoutPasid = -1;
/** The unit's queue (PQA, PQH, PQT, PRS; of RISC-V pqb, pqh, pqt, pqcsr). Numbers of requests count all that there ever were. */
export const PageRequests = object('PageRequests', {
  unit: ref('IommuUnit'),
  /** How many were taken by software, how many have come into the queue. */
  head: u32,
  tail: u32,
  /** How many were asked for, and how many of those are not on their way any more. */
  asked: u32,
  arrived: u32,
  /** As many had been asked for when a function last answered an invalidation of its device TLB. */
  ahead: u32,
  /** PRS.PRO, pqcsr.pqof. */
  overflowed: u32,
  /** Leaf lock over all of it. */
  lock: u32,
  entries: words(ringLength * entryWords),
  onTheWay: words(mostOnTheWay * entryWords),
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

/** Of the unit before a function; `NULL` where it takes no requests. */
const queueBefore = (kernel: Memory, pciFunction: Ref<'PciFunction'>): Ref<'PageRequests'> => IommuUnit.pageRequests.peek(kernel, PciFunction.unit.peek(kernel, pciFunction));

/** The function asks for a page; its unit has a queue. Returns the group's number, or 0 for a function that has no credit left or finds the way full, and does not ask. A point. */
export function askForPage(kernel: Memory, pciFunction: Ref<'PciFunction'>, pasid: number | null, page: number, access: number): number {
  const queue = queueBefore(kernel, pciFunction);
  if (queue === NULL) throw new RangeError('the unit before the function takes no page requests');
  if (kernel.control !== null) kernel.control.point(Op.STORE, kernel, PageRequests.asked.address(kernel, queue), PageRequests.asked.label);
  const rid = PciFunction.rid.peek(kernel, pciFunction);
  const lock = PageRequests.lock.address(kernel, queue);
  lockLeaf(kernel, lock);
  const asked = PageRequests.asked.peek(kernel, queue);
  const hasWay = asked - PageRequests.arrived.peek(kernel, queue) < mostOnTheWay;
  const group = hasWay ? takeGroup(kernel, pciFunction) : 0;
  if (group !== 0) {
    pageRequested.emit(kernel, rid, group, pasid ?? withoutPasid, page);
    const at = (asked % mostOnTheWay) * entryWords;
    [rid | (access << 16), pasid ?? withoutPasid, group, page].forEach((word, index) => PageRequests.onTheWay.set(kernel, queue, at + index, word));
    PageRequests.asked.poke(kernel, queue, asked + 1);
  }
  if (kernel.control !== null) kernel.control.saw(group);
  unlockLeaf(kernel, lock);
  return group;
}

/** How many requests ever came into the queue (PQT). A point. */
export const requestsSoFar = (kernel: Memory, queue: Ref<'PageRequests'>): number => PageRequests.tail.load(kernel, queue);

/** The oldest of the first `count` requests that ever came, which stays where it is; null when all those are taken. Software alone moves the head. */
export function oldestRequest(kernel: Memory, queue: Ref<'PageRequests'>, count: number): QueuedRequest | null {
  const head = PageRequests.head.peek(kernel, queue);
  return head === count ? null : requestAt(kernel, queue, PageRequests.entries, head % ringLength);
}

/** Software has done with the oldest. */
export function takeOldest(kernel: Memory, queue: Ref<'PageRequests'>): void {
  PageRequests.head.poke(kernel, queue, PageRequests.head.peek(kernel, queue) + 1);
}

/** All that software has not taken, and what is on its way; as no point. */
export function requestsIn(kernel: Memory, queue: Ref<'PageRequests'>): QueuedRequest[] {
  const found: QueuedRequest[] = [];
  const [tail, asked] = [PageRequests.tail.peek(kernel, queue), PageRequests.asked.peek(kernel, queue)];
  for (let number = PageRequests.head.peek(kernel, queue); number !== tail; number++) found.push(requestAt(kernel, queue, PageRequests.entries, number % ringLength));
  for (let number = PageRequests.arrived.peek(kernel, queue); number !== asked; number++) found.push(requestAt(kernel, queue, PageRequests.onTheWay, number % mostOnTheWay));
  return found;
}

/** In a slot of the queue, or of what is on its way. */
export function requestAt(kernel: Memory, queue: Ref<'PageRequests'>, ring: typeof PageRequests.entries, slot: number): QueuedRequest {
  const word = (index: number): number => ring.get(kernel, queue, slot * entryWords + index);
  const pasid = word(1);
  return { rid: word(0) & 0xffff, pasid: pasid === withoutPasid ? null : pasid, group: word(2), page: word(3), access: word(0) >>> 16 };
}

/** The function has answered an invalidation of its device TLB. */
export function pushAhead(kernel: Memory, pciFunction: Ref<'PciFunction'>): void {
  const queue = queueBefore(kernel, pciFunction);
  if (queue === NULL) return;
  const lock = PageRequests.lock.address(kernel, queue);
  lockLeaf(kernel, lock);
  PageRequests.ahead.poke(kernel, queue, PageRequests.asked.peek(kernel, queue));
  unlockLeaf(kernel, lock);
}

/** Whether all that was ahead of such an answer has come in. No point. */
export const hasCome = (kernel: Memory, queue: Ref<'PageRequests'>): boolean =>
  silent.load(kernel, PageRequests.arrived.address(kernel, queue)) - PageRequests.ahead.peek(kernel, queue) >= 0;

/** PRS.PRO: requests were refused since software last cleared it. */
export const hasOverflowed = (kernel: Memory, queue: Ref<'PageRequests'>): boolean => PageRequests.overflowed.peek(kernel, queue) !== 0;

/** Software clears PRS.PRO, if it has taken all. */
export function clearOverflow(kernel: Memory, queue: Ref<'PageRequests'>): void {
  const lock = PageRequests.lock.address(kernel, queue);
  lockLeaf(kernel, lock);
  if (PageRequests.head.peek(kernel, queue) === PageRequests.tail.peek(kernel, queue)) PageRequests.overflowed.poke(kernel, queue, 0);
  unlockLeaf(kernel, lock);
}

/** The unit hands software's answer to the function. */
export function deliverAnswer(kernel: Memory, unit: Ref<'IommuUnit'>, rid: number, group: number, code: number): void {
  const queue = IommuUnit.pageRequests.peek(kernel, unit);
  const lock = PageRequests.lock.address(kernel, queue);
  lockLeaf(kernel, lock);
  answerUnderLock(kernel, unit, rid, group, code);
  unlockLeaf(kernel, lock);
}

/** Told before the number may be used again. */
export function answerUnderLock(kernel: Memory, unit: Ref<'IommuUnit'>, rid: number, group: number, code: number): void {
  pageAnswered.emit(kernel, rid, group, code);
  let at: Ref<'PciFunction'> = IommuUnit.firstFunction.peek(kernel, unit);
  while (at !== NULL && PciFunction.rid.peek(kernel, at) !== rid) at = PciFunction.nextOfUnit.peek(kernel, at);
  if (at !== NULL) giveBackGroup(kernel, at, group);
}
