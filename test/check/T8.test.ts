import { GuestRequested } from '#src/drivers/tsm/events';
import { Request, RequestScope } from '#src/drivers/tsm/link-tsm';
import { configurationWritten, ownedAccess, tdiMoved } from '#src/hardware/events';
import { Mover, Register, TdiState } from '#src/hardware/tdisp';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

const { UNLOCKED, LOCKED, RUN, ERROR } = TdiState;

async function setUp() {
  const here = await court('T8');
  const memory = here.vmm.world.host.kernel;
  const rid = here.rid('A');
  return {
    here,
    move: (from: number, to: number, by: number = Mover.TSM) => tdiMoved.emit(memory, rid, from, to, by),
    write: () => configurationWritten.emit(memory, rid, Register.BAR),
    request: (scope: number) => GuestRequested.emit(memory, rid, scope, Request.REPORT, 1),
    reach: () => ownedAccess.emit(memory, rid, 1, 0, 0x1000, 5, 3),
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['the whole way round', ({ move, write }) => {
    write();
    move(UNLOCKED, LOCKED);
    move(LOCKED, RUN);
    write();
    move(RUN, ERROR, Mover.DEVICE);
    move(ERROR, UNLOCKED);
  }],
  ['requests about TDISP', ({ request }) => {
    request(RequestScope.INFO);
    request(RequestScope.STATE_CHANGE);
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, string, (all: All) => void]>([
  ['RUN without a lock', 'went from CONFIG_UNLOCKED to RUN', ({ move }) => move(UNLOCKED, RUN)],
  ['out of ERROR into RUN', 'went from ERROR to RUN', ({ move }) => move(ERROR, RUN)],
  ['the device starts itself', 'went from CONFIG_LOCKED to RUN', ({ move }) => move(LOCKED, RUN, Mover.DEVICE)],
  ['a configuration that changes under lock is forgiven', 'and it is in RUN', ({ move, write }) => {
    move(UNLOCKED, LOCKED);
    move(LOCKED, RUN);
    write();
  }],
  ['T=1 goes on after it', 'goes on with T=1', ({ move, write, reach }) => {
    move(UNLOCKED, LOCKED);
    move(LOCKED, RUN);
    write();
    reach();
  }],
  ['a request that is not about TDISP is carried out', 'scope 2', ({ request }) => request(RequestScope.DEBUG_READ)],
])('breaks: %s', async (_, message, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'T8', message: expect.stringContaining(message) });
});
