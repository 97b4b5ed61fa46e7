import { seenBy, Visibility } from '#hostmem/frames';
import { TdiBound, TdiUnbound } from '#src/drivers/tsm/events';
import { dma, ownedAccess, tdiMoved } from '#src/hardware/events';
import { Mover, TdiState } from '#src/hardware/tdisp';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('T2');
  const memory = here.vmm.world.host.kernel;
  const rid = here.rid('A');
  return {
    here,
    stamp: () => here.history.stamp(),
    bind: (guest: number) => TdiBound.emit(memory, rid, guest, 0),
    unbind: (guest: number) => TdiUnbound.emit(memory, rid, guest),
    run: () => tdiMoved.emit(memory, rid, TdiState.LOCKED, TdiState.RUN, Mover.TSM),
    stop: () => tdiMoved.emit(memory, rid, TdiState.RUN, TdiState.UNLOCKED, Mover.TSM),
    /** A whole transaction, which began at `begin`. */
    access(begin: number, { trusted = 1, visibility = Visibility.PRIVATE as Visibility, of = 1, frame = 5 } = {}): void {
      if (frame !== 0) ownedAccess.emit(memory, rid, trusted, 0, 0x1000, frame, seenBy(visibility, of));
      dma.emit(memory, rid, 0, 0x1000, frame, 0x100, begin);
    },
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['a bound interface that runs reaches its guest\'s pages', ({ bind, run, stamp, access }) => {
    bind(1);
    run();
    access(stamp());
  }],
  ['what was sent in RUN ends after it', ({ bind, run, stop, stamp, access }) => {
    bind(1);
    run();
    const begin = stamp();
    stop();
    access(begin);
  }],
  ['T=0 from an interface that does not run', ({ stamp, access }) => access(stamp(), { trusted: 0, visibility: Visibility.SHARED })],
  ['T=1 is refused', ({ stamp, access }) => access(stamp(), { frame: 0 })],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, string, (all: All) => void]>([
  ['a page of another guest', 'private to guest 2; the interface is bound to guest 1', ({ bind, run, stamp, access }) => {
    bind(1);
    run();
    access(stamp(), { of: 2 });
  }],
  ['a private page after the unbind', 'the interface is bound to nobody', ({ bind, run, unbind, stamp, access }) => {
    bind(1);
    run();
    unbind(1);
    access(stamp());
  }],
  ['T=1 before RUN', 'does not run', ({ bind, stamp, access }) => {
    bind(1);
    access(stamp());
  }],
  ['T=1 sent after RUN', 'does not run', ({ bind, run, stop, stamp, access }) => {
    bind(1);
    run();
    stop();
    access(stamp(), { visibility: Visibility.SHARED });
  }],
])('breaks: %s', async (_, message, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'T2', message: expect.stringContaining(message) });
});
