import { pageAnswered, pageRequested } from '#src/hardware/events';
import { askForPage, hasOverflowed, oldestRequest, requestsIn, ringLength, takeOldest } from '#src/hardware/page-requests';
import { takeInAll } from '#src/hardware/request-arrival';
import { PciFunction } from '#src/hardware/function';
import { IommuUnit } from '#src/hardware/unit';
import { expect, test } from 'vitest';
import { pageRequestHost } from './page-request-host.ts';

test('holds: a request is in hardware, queued, read, answered', async () => {
  const { ask, handOn, attach, readAll, answer, first, verdict } = await pageRequestHost('F1');
  attach(first.hwpt);
  const steps = [ask, handOn, () => expect(readAll(first.faultFd)).toBe(40), () => expect(answer(first.faultFd, 1)).toBeNull()];
  for (const step of steps) {
    step();
    expect(verdict()).toBeNull();
  }
});

test.each(['in hardware', 'queued', 'read'])('holds: the device leaves while its request is %s, and one answer is all it gets', async (where) => {
  const { ask, handOn, attach, detach, readAll, answer, first, verdict } = await pageRequestHost('F1');
  attach(first.hwpt);
  ask();
  if (where !== 'in hardware') handOn();
  if (where === 'read') readAll(first.faultFd);
  expect(detach()).toBeNull();
  expect(answer(first.faultFd, 1)).toBe('EINVAL');
  expect(verdict()).toBeNull();
});

test('holds: the queue overflows, and who takes the device away drains until nothing was refused', async () => {
  const { memory, nic, disk, ask, attach, detach, first, second, verdict } = await pageRequestHost('F1');
  attach(first.hwpt);
  const queue = IommuUnit.pageRequests.peek(memory, PciFunction.unit.peek(memory, nic));
  for (let i = 0; i < ringLength + 2; i++) {
    if (i < 32) ask();
    else askForPage(memory, disk, null, 7, 1);
    takeInAll(memory, queue);
  }
  expect(hasOverflowed(memory, queue)).toBe(true);
  attach(second.hwpt);
  expect([hasOverflowed(memory, queue), requestsIn(memory, queue), verdict()]).toEqual([false, [], null]);
  expect([detach(), verdict()]).toEqual([null, null]);
});

test('holds: nobody has the device, and it is told so', async () => {
  const { ask, handOn, verdict } = await pageRequestHost('F1');
  ask();
  handOn();
  expect(verdict()).toBeNull();
});

test('breaks: a second answer', async () => {
  const { memory, nic, ask, handOn, verdict } = await pageRequestHost('F1');
  const group = ask();
  handOn();
  expect(verdict()).toBeNull();
  pageAnswered.emit(memory, PciFunction.rid.peek(memory, nic), group, 0);
  expect(verdict()).toMatch(/^group 1 of requester 0x28 is answered, which it was already$/);
});

test('breaks: a request that software takes and forgets', async () => {
  const { memory, nic, ask, verdict } = await pageRequestHost('F1');
  ask();
  const queue = IommuUnit.pageRequests.peek(memory, PciFunction.unit.peek(memory, nic));
  takeInAll(memory, queue);
  expect(oldestRequest(memory, queue, 1)?.group).toBe(1);
  takeOldest(memory, queue);
  expect(verdict()).toMatch(/^a device waits for the answer to 40\.1 /);
});

test('breaks: a request that never reached a queue', async () => {
  const { memory, nic, verdict } = await pageRequestHost('F1');
  pageRequested.emit(memory, PciFunction.rid.peek(memory, nic), 9, -1, 0);
  expect(verdict()).toMatch(/which nobody knows of any more$/);
});
