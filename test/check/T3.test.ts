import { GuestRequested, TdiBound, TdiUnbound } from '#src/drivers/tsm/events';
import { Request, RequestScope } from '#src/drivers/tsm/link-tsm';
import { GroupReleased } from '#src/kernel/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('T3');
  const memory = here.vmm.world.host.kernel;
  const rid = here.rid('A');
  return {
    here,
    bind: (guest: number, before = 0) => TdiBound.emit(memory, rid, guest, before),
    unbind: (guest: number) => TdiUnbound.emit(memory, rid, guest),
    request: () => GuestRequested.emit(memory, rid, RequestScope.STATE_CHANGE, Request.LOCK, 0),
    release: (group = here.group.number) => GroupReleased.emit(memory, group),
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['one after the other', ({ bind, unbind, request }) => {
    bind(1);
    request();
    unbind(1);
    bind(2);
  }],
  ['the group goes back to the host after the unbind', ({ bind, unbind, release }) => {
    bind(1);
    unbind(1);
    release();
  }],
  ['another group goes back to the host', ({ bind, release, here }) => {
    bind(1);
    release(here.other.number);
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, string, (all: All) => void]>([
  ['two guests have one interface', 'is bound to guest 2 while it is bound to guest 1', ({ bind }) => {
    bind(1);
    bind(2, 1);
  }],
  ['a request for what is bound to nobody', 'bound to nobody', ({ request }) => request()],
  ['a request after the unbind', 'bound to nobody', ({ bind, unbind, request }) => {
    bind(1);
    unbind(1);
    request();
  }],
  ['the group goes back to the host while an interface of it is bound', 'goes back to the host', ({ bind, release }) => {
    bind(1);
    release();
  }],
])('breaks: %s', async (_, message, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'T3', message: expect.stringContaining(message) });
});
