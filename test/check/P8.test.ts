import { expect, test } from 'vitest';
import { DmaFlags, dma } from '#src/hardware/events';
import { DirtyAnswered, DirtyQueried, DirtyReported, DirtyTracked, DomainJoined, DomainLeft, UnmapCalled } from '#src/kernel/events';
import { court } from './histories.ts';

const root = 0x77;
const page = 4096;

async function setUp() {
  const here = await court('P8');
  const memory = here.vmm.world.host.kernel;
  const stamp = () => here.history.stamp();
  const all = {
    here,
    stamp,
    track: (on: boolean) => DirtyTracked.emit(memory, root, on ? 1 : 0),
    write: (at: number, begin = stamp(), frame = 5) => dma.emit(memory, DmaFlags.WRITE, 0, at * page, frame, root, begin),
    read: (at: number) => dma.emit(memory, 0, 0, at * page, 5, root, stamp()),
    /** Begins a query; what it returns ends it. */
    query: (first: number, pages: number) => {
      DirtyQueried.emit(memory, root, 0, first * page, pages);
      const begin = stamp();
      return (...told: number[]) => {
        for (const one of told) DirtyReported.emit(memory, root, 0, one * page, 1);
        DirtyAnswered.emit(memory, root, 0, first * page, pages, begin);
      };
    },
    unmap: (first: number, pages: number) => {
      DomainJoined.emit(memory, 2, 1, root);
      UnmapCalled.emit(memory, 2, 0, first * page, pages, 1);
    },
    leave: () => DomainLeft.emit(memory, 2, 1, root),
  };
  return all;
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['what was written is told, once', ({ track, write, query }) => {
    track(true);
    write(3);
    query(0, 8)(3);
    query(0, 8)();
  }],
  ['pages outside of the range are told by a later query', ({ track, write, query }) => {
    track(true);
    write(9);
    query(0, 8)();
    query(8, 8)(9);
  }],
  ['nothing was written through the domain: a read, a fault, a write before tracking', ({ track, write, read, query, stamp }) => {
    write(1);
    track(true);
    read(2);
    write(3, stamp(), 0);
    query(0, 8)();
  }],
  ['a write that ends while the query runs is told by the next', ({ track, write, query }) => {
    track(true);
    const returns = query(0, 8);
    write(3);
    returns();
    query(0, 8)(3);
  }],
  ['a query takes the mark of a write that has not ended yet', ({ track, write, query, stamp }) => {
    track(true);
    const begin = stamp();
    query(0, 8)(3);
    write(3, begin);
    query(0, 8)();
  }],
  ['of two queries at once, the one that returns later tells it', ({ track, write, query }) => {
    track(true);
    write(3);
    const [first, second] = [query(0, 8), query(0, 8)];
    first();
    second(3);
  }],
  ['tracking is switched off and on: it begins anew', ({ track, write, query }) => {
    track(true);
    write(3);
    track(false);
    track(true);
    query(0, 8)();
  }],
  ['the page was unmapped', ({ track, write, unmap, query }) => {
    track(true);
    write(3);
    unmap(2, 4);
    query(0, 8)();
  }],
  ['the domain is gone, and its root is used again', ({ track, write, leave, query }) => {
    track(true);
    write(3);
    leave();
    track(true);
    query(0, 8)();
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, (all: All) => void]>([
  ['a query of its range does not tell it', ({ track, write, query }) => {
    track(true);
    write(3);
    query(0, 8)(2, 4);
  }],
  ['it was written again after it was told', ({ track, write, query }) => {
    track(true);
    write(3);
    query(0, 8)(3);
    write(3);
    query(0, 8)();
  }],
  ['tracking was switched on once more in between', ({ track, write, query }) => {
    track(true);
    write(3);
    track(true);
    query(0, 8)();
  }],
  ['tracking is off by now', ({ track, write, query }) => {
    track(true);
    write(3);
    track(false);
    query(0, 8)();
  }],
  ['none of two queries at once tells it', ({ track, write, query }) => {
    track(true);
    write(3);
    const [first, second] = [query(0, 8), query(0, 8)];
    first();
    second();
  }],
])('breaks: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'P8', message: expect.stringContaining('the page at iova 0x3000') });
});
