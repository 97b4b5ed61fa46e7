import { expect, test } from 'vitest';
import doubleOwner from '#src/kernel/variants/iopf-double-owner';
import { pageRequestHost } from './page-request-host.ts';

test('holds: what is queued, read and answered has one owner', async () => {
  const { ask, handOn, attach, readAll, answer, first, verdict } = await pageRequestHost('F2');
  attach(first.hwpt);
  for (const step of [ask, handOn, () => readAll(first.faultFd), () => answer(first.faultFd, 1)]) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('breaks: the handler leaves the request on the list of its device', async () => {
  const { ask, handOn, attach, first, verdict } = await pageRequestHost('F2', doubleOwner);
  attach(first.hwpt);
  ask();
  expect(verdict()).toBeNull();
  handOn();
  expect(verdict()).toBe("page request 1 of device 1 is in a user's queue and still on the list of its device");
});
