import { expect, test } from 'vitest';
import noDrain from '#src/kernel/variants/iopf-no-drain';
import wrongQueue from '#src/kernel/variants/iopf-replace-wrong-queue';
import leftBehind from '#src/kernel/variants/iopf-pasid-left-behind';
import { pageRequestHost } from './page-request-host.ts';

test('holds: a replace and a detach leave nothing behind, and what is asked for after them goes where the device is', async () => {
  const { ask, handOn, attach, detach, readAll, first, second, verdict } = await pageRequestHost('F3');
  attach(first.hwpt);
  ask();
  handOn();
  ask();
  attach(second.hwpt);
  expect([readAll(first.faultFd), readAll(second.faultFd), verdict()]).toEqual([0, 0, null]);
  ask();
  handOn();
  expect([readAll(first.faultFd), readAll(second.faultFd), verdict()]).toEqual([0, 40, null]);
  ask();
  detach();
  handOn();
  expect([readAll(second.faultFd), verdict()]).toEqual([0, null]);
});

test('breaks: a replace answers what is in the new queue', async () => {
  const { ask, handOn, attach, first, second, verdict } = await pageRequestHost('F3', wrongQueue);
  attach(first.hwpt);
  ask();
  handOn();
  expect(verdict()).toBeNull();
  attach(second.hwpt);
  expect(verdict()).toBe('page request 1 of device 1 is in the queue of an HWPT that the device is not attached to');
});

test('breaks: a replace does not wait for what is in hardware', async () => {
  const { ask, handOn, attach, first, second, verdict } = await pageRequestHost('F3', noDrain);
  attach(first.hwpt);
  ask();
  attach(second.hwpt);
  expect(verdict()).toBeNull();
  handOn();
  expect(verdict()).toBe('page request 1 of device 1 goes to the queue of what the device was given after it had asked');
});

test("holds: a PASID's requests go to what it has, by its own number, and leave with it; those of the RID stay", async () => {
  const { ask, handOn, attach, attachPasid, detachPasid, readAll, first, second, verdict } = await pageRequestHost('F3');
  attach(first.hwpt);
  ask(5);
  handOn();
  expect([readAll(first.faultFd), verdict()]).toEqual([0, null]);
  attachPasid(5, first.hwpt);
  ask();
  ask(5);
  ask(6);
  handOn();
  attachPasid(5, second.hwpt);
  expect([readAll(first.faultFd), readAll(second.faultFd), verdict()]).toEqual([40, 0, null]);
  ask(5);
  handOn();
  expect([readAll(first.faultFd), readAll(second.faultFd), verdict()]).toEqual([0, 40, null]);
  ask(5);
  ask();
  detachPasid(5);
  handOn();
  expect([readAll(first.faultFd), readAll(second.faultFd), verdict()]).toEqual([40, 0, null]);
});

test("breaks: a replace of a PASID leaves what is in the old one's queue, or does not wait for what is in hardware", async () => {
  for (const [variant, message] of [[leftBehind, /is in the queue of an HWPT that the device is not attached to/], [noDrain, /goes to the queue of what the device was given after/]] as const) {
    const { ask, handOn, attachPasid, first, second, verdict } = await pageRequestHost('F3', variant);
    attachPasid(5, first.hwpt);
    ask(5);
    if (variant === leftBehind) handOn();
    attachPasid(5, second.hwpt);
    if (variant === noDrain) handOn();
    expect(verdict()).toMatch(message);
  }
});
