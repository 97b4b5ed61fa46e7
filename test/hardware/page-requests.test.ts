/** Page requests on their way to their unit's queue: what a wait with PD waits for, what becomes of those that find no room, and the numbers of groups. */
import { Cursor, History, historyBytes } from '#hostmem/history';
import { NULL, type Ref } from '#hostmem/object';
import { Batch } from '#src/drivers/vtd/batch';
import { AtcInvalidation } from '#src/hardware/atc';
import { pageAnswered } from '#src/hardware/events';
import { askForPage, clearOverflow, deliverAnswer, hasOverflowed, oldestRequest, requestsIn, requestsSoFar, ringLength, takeOldest } from '#src/hardware/page-requests';
import { RequestArrival, takeInAll } from '#src/hardware/request-arrival';
import { groupMask } from '#src/hardware/request-groups';
import { IommuUnit } from '#src/hardware/unit';
import { Bits, Descriptor } from '#src/hardware/vtd/descriptors';
import { expect, test } from 'vitest';
import { BareQueue } from './bare-queue.ts';
import { scalableUnit, smallMachine } from './small-machine.ts';

const rid = 0x108;

function setUp() {
  const small = smallMachine({ ...scalableUnit, ats: true, pageRequests: true }, [rid, 0x110].map((each) => ({ rid: each, ats: true, pageRequests: true })));
  const { kernel } = small.host;
  const requests = IommuUnit.pageRequests.peek(kernel, small.unit);
  const history = new History(new SharedArrayBuffer(historyBytes(1, 4096)), 1, 4096);
  kernel.history = history;
  return {
    small, kernel, requests,
    bare: new BareQueue(small, 32),
    arrival: new RequestArrival(small.host, requests),
    atc: new AtcInvalidation(small.host, small.functions[0]!),
    ask: (page: number, which: 0 | 1 = 0) => askForPage(kernel, small.functions[which]!, null, page, 1),
    answer: (group: number) => deliverAnswer(kernel, small.unit, rid, group, 0),
    /** The groups of all answers. */
    answered(): number[] {
      const cursor = new Cursor(history.words);
      const events = Array.from({ length: history.length(0) }, (_, index) => history.at(0, index));
      return events.flatMap((at) => {
        cursor.at = at;
        return cursor.kind === pageAnswered.kind ? [pageAnswered.get.group(cursor)] : [];
      });
    },
    take(): number | null {
      const oldest = oldestRequest(kernel, requests, requestsSoFar(kernel, requests));
      if (oldest !== null) takeOldest(kernel, requests);
      return oldest?.page ?? null;
    },
  };
}

test('a wait with PD is over when what was ahead of the answer to an invalidation of the device TLB is in the queue, and does not wait for what came behind it', () => {
  const { bare, arrival, atc, ask, take } = setUp();
  const drain = (): void => {
    bare.pushBatch(new Batch().deviceTlb(rid, 0, 0, 52));
    bare.push(Descriptor.WAIT | Bits.waitPageRequests, 0, 0, 0);
    bare.queue.step();
    atc.step();
  };
  ask(1);
  ask(2);
  drain();
  ask(3);
  expect([take(), bare.queue.ready(), arrival.ready()]).toEqual([null, false, true]);
  arrival.step();
  expect(bare.queue.ready()).toBe(false);
  arrival.step();
  expect([bare.queue.ready(), arrival.ready()]).toEqual([true, true]);
  bare.queue.step();
  expect([take(), take(), take()]).toEqual([1, 2, null]);
  // One without PD waits for none of it.
  bare.pushWait(0, 7);
  expect(bare.queue.ready()).toBe(true);
});

test('without an invalidation of the device TLB before it, a wait with PD says nothing of what is on its way', () => {
  const { bare, ask } = setUp();
  ask(1);
  bare.push(Descriptor.WAIT | Bits.waitPageRequests, 0, 0, 0);
  expect(bare.queue.ready()).toBe(true);
});

test('where the queue has no room, requests are answered with success until software has taken all and cleared PRO, and none is lost without an answer', () => {
  const { kernel, requests, answered, ask, take } = setUp();
  const put = (page: number, which: 0 | 1): number => {
    const group = ask(page, which);
    takeInAll(kernel, requests);
    return group;
  };
  for (let page = 0; page < ringLength; page++) put(page, 0);
  expect(hasOverflowed(kernel, requests)).toBe(false);
  const refused = [put(100, 1), put(101, 1)];
  expect([hasOverflowed(kernel, requests), answered(), requestsIn(kernel, requests).length]).toEqual([true, refused, ringLength]);
  expect(take()).toBe(0);
  clearOverflow(kernel, requests);
  refused.push(put(102, 1));
  expect([answered(), requestsIn(kernel, requests).length]).toEqual([refused, ringLength - 1]);
  while (take() !== null);
  clearOverflow(kernel, requests);
  put(103, 1);
  expect([hasOverflowed(kernel, requests), requestsIn(kernel, requests).map(({ page }) => page)]).toEqual([false, [103]]);
});

test('the number of a group has nine bits, and is given to no other group before its own was answered', () => {
  const { kernel, requests, ask, answer, take } = setUp();
  const next = (): number => {
    const group = ask(0);
    takeInAll(kernel, requests);
    take();
    return group;
  };
  const kept = [next(), next()];
  const once = Array.from({ length: groupMask - 2 }, () => {
    const group = next();
    answer(group);
    return group;
  });
  expect([...kept, ...once]).toEqual(Array.from({ length: groupMask }, (_, index) => index + 1));
  expect(next()).toBe(3);
  answer(2);
  expect(next()).toBe(4);
});

test('a function has as much credit as the queue has room, and asks no more than what can be on its way', () => {
  const { kernel, requests, ask } = setUp();
  const asked = (): number => Array.from({ length: 40 }, (_, page) => ask(page)).filter((group) => group !== 0).length;
  expect([asked(), requestsIn(kernel, requests).length]).toEqual([32, 32]);
  takeInAll(kernel, requests);
  expect(asked()).toBe(32);
  takeInAll(kernel, requests);
  expect([asked(), hasOverflowed(kernel, requests)]).toEqual([0, false]);
});

test('a unit without page requests stops at a wait with PD, and at an answer to them', () => {
  for (const first of [Descriptor.WAIT | Bits.waitPageRequests, Descriptor.PAGE_ANSWER]) {
    const small = smallMachine({ ...scalableUnit, ats: true });
    expect(IommuUnit.pageRequests.peek(small.host.kernel, small.unit)).toBe(NULL as Ref<'PageRequests'>);
    const bare = new BareQueue(small, 32);
    bare.push(first, 0, 0, 0);
    bare.queue.step();
    expect(bare.error).toBe(true);
  }
});
