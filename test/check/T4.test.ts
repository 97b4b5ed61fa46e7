import { ownedAccess, tdiMoved } from '#src/hardware/events';
import { Mover, TdiState } from '#src/hardware/tdisp';
import { HandleMapped, HandleUnmapped } from '#src/kernel/events';
import { Backend } from '#src/kernel/guest-dma';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('T4');
  const memory = here.vmm.world.host.kernel;
  const rid = here.rid('A');
  return {
    here,
    map: (backend: number, frame = 5) => HandleMapped.emit(memory, rid, 0x1000, frame, backend),
    unmap: (backend: number) => HandleUnmapped.emit(memory, rid, 0x1000, backend),
    reach: (frame: number) => ownedAccess.emit(memory, rid, 0, 0, 0x1000, frame, 1),
    lock: () => tdiMoved.emit(memory, rid, TdiState.UNLOCKED, TdiState.LOCKED, Mover.TSM),
    run: () => tdiMoved.emit(memory, rid, TdiState.LOCKED, TdiState.RUN, Mover.TSM),
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['it reaches its page and goes back', ({ map, reach, unmap }) => {
    map(Backend.BOUNCE);
    reach(5);
    unmap(Backend.BOUNCE);
    reach(6);
  }],
  ['the switch comes between two', ({ map, unmap, run }) => {
    map(Backend.BOUNCE);
    unmap(Backend.BOUNCE);
    run();
    map(Backend.TRANSLATED, 6);
    unmap(Backend.TRANSLATED);
  }],
  ['a lock alone changes no address', ({ map, lock }) => {
    map(Backend.BOUNCE);
    lock();
  }],
  ['the one table and the halves of a split space outlive the switch', ({ map, run }) => {
    map(Backend.ONE_TABLE);
    run();
    map(Backend.SHARED_HALF);
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, string, (all: All) => void]>([
  ['it goes back to something else', 'mapped 0x1000 from the bounce pages of T=0 and gives it back to the trusted table of T=1', ({ map, run, unmap }) => {
    map(Backend.BOUNCE);
    run();
    unmap(Backend.TRANSLATED);
  }],
  ['it reaches another page', 'was given for frame 0x5 and reaches frame 0x6', ({ map, reach }) => {
    map(Backend.ONE_TABLE);
    reach(6);
  }],
  ['it goes back twice', 'which is not mapped', ({ map, unmap }) => {
    map(Backend.BOUNCE);
    unmap(Backend.BOUNCE);
    unmap(Backend.BOUNCE);
  }],
  ['the switch leaves it behind', 'outlives a switch of T', ({ map, run }) => {
    map(Backend.BOUNCE);
    run();
  }],
])('breaks: %s', async (_, message, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'T4', message: expect.stringContaining(message) });
});
