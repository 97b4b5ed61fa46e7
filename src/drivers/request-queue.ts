/** How a driver takes page requests out of the queue of a unit, whichever vendor's. One thread at a time. */
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { clearOverflow, oldestRequest, requestsSoFar, takeOldest } from '../hardware/page-requests.ts';
import { takeInAll } from '../hardware/request-arrival.ts';
import type { TakenRequest } from './driver.ts';

/** How many ever came; `NULL` is no queue. */
export function requestsCome(kernel: Memory, queue: Ref<'PageRequests'>): number {
  if (queue === NULL) return 0;
  if (kernel.control === null) takeInAll(kernel, queue);
  return requestsSoFar(kernel, queue);
}

/** Takes the oldest; null when the first `count` that came are taken, and then an overflow is over. */
export function takeRequest(kernel: Memory, queue: Ref<'PageRequests'>, count: number): TakenRequest | null {
  if (queue === NULL) return null;
  const oldest = oldestRequest(kernel, queue, count);
  if (oldest !== null) takeOldest(kernel, queue);
  else clearOverflow(kernel, queue);
  return oldest;
}
