import { expect, test } from 'vitest';
import { DmaFlags, dma } from '#src/hardware/events';
import { errnoNumber } from '#src/kernel/errno';
import { AreaPlaced, AreaTaken, DomainJoined, DomainLeft, MapCalled, MapReturned, UnmapCalled, UnmapReturned } from '#src/kernel/events';
import { court } from './histories.ts';

const root = 0x100;
const readWrite = 3;

async function setUp() {
  const here = await court('D3');
  const memory = here.vmm.world.host.kernel;
  const rid = here.rid('A');
  DomainJoined.emit(memory, 1, 1, root);
  const tell = {
    here,
    now: () => memory.history!.stamp(),
    joined: () => DomainJoined.emit(memory, 1, 1, root),
    left: () => DomainLeft.emit(memory, 1, 1, root),
    placed: (page: number, pages = 1, permissions = readWrite) => AreaPlaced.emit(memory, 1, 0, page << 12, pages, 1, permissions),
    mapping: (page: number, pages = 1) => MapCalled.emit(memory, 1, 0, page << 12, pages, 1),
    mapped: (page: number, pages = 1, errno = 0) => MapReturned.emit(memory, 1, 0, page << 12, pages, errno, 1),
    unmapping: (page: number, pages = 1) => UnmapCalled.emit(memory, 1, 0, page << 12, pages, 1),
    taken: (page: number, pages = 1) => AreaTaken.emit(memory, 1, 0, page << 12, pages, 1),
    unmapped: (page: number, pages = 1, errno = 0) => UnmapReturned.emit(memory, 1, 0, page << 12, pages, errno, 1),
    /** A DMA that began at a stamp, or just now; frame 0 is a fault. */
    reach: (page: number, frame = 5, begin = memory.history!.stamp(), through = root) => dma.emit(memory, rid, 0, page << 12, frame, through, begin),
    write: (page: number, frame = 5) => dma.emit(memory, rid | DmaFlags.WRITE, 0, page << 12, frame, root, memory.history!.stamp()),
  };
  return {
    ...tell,
    map(page: number, pages = 1, permissions = readWrite) {
      tell.mapping(page, pages);
      tell.placed(page, pages, permissions);
      tell.mapped(page, pages);
    },
    unmap(page: number, pages = 1) {
      tell.unmapping(page, pages);
      tell.taken(page, pages);
      tell.unmapped(page, pages);
    },
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['a DMA through what is mapped, and a fault through what is not', ({ map, reach, unmap }) => {
    map(3);
    reach(3);
    unmap(3);
    reach(3, 0);
  }],
  ['while a map or an unmap runs, a DMA may complete or fault', ({ mapping, placed, mapped, unmapping, unmapped, reach }) => {
    mapping(3);
    placed(3);
    reach(3);
    reach(3, 0);
    mapped(3);
    unmapping(3);
    reach(3, 0);
    reach(3);
    unmapped(3);
  }],
  ['a DMA that began before an unmap returned completes after it', ({ map, unmap, reach, now }) => {
    map(3);
    const begin = now();
    unmap(3);
    reach(3, 5, begin);
  }],
  ['a fault that began before the map returned, or before the domain was filled', ({ map, joined, left, reach, now }) => {
    let begin = now();
    map(3);
    reach(3, 0, begin);
    left();
    begin = now();
    joined();
    reach(3, 0, begin);
  }],
  ['another mapping has another frame', ({ map, unmap, reach }) => {
    map(3);
    reach(3, 5);
    unmap(3);
    map(3);
    reach(3, 6);
  }],
  ['a mapping that came while an unmap of its range ran is left alone by it', ({ unmapping, map, unmapped, reach }) => {
    unmapping(0, 0);
    map(3);
    unmapped(0, 0);
    reach(3);
  }],
  ['a request that met no domain of an IOAS', ({ map, reach, now }) => {
    reach(3, 5, now(), 0x200);
    map(3);
    reach(3, 0, now(), 0);
  }],
  ['a write faults where only reading is allowed', ({ map, write }) => {
    map(3, 1, 1);
    write(3, 0);
  }],
  ['after an unmap that failed nobody knows', ({ map, unmapping, unmapped, reach }) => {
    map(3);
    unmapping(3);
    unmapped(3, 1, errnoNumber('EBUSY'));
    reach(3);
    reach(3, 0);
  }],
])('holds: %s', async (_, story) => {
  const all = await setUp();
  story(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, RegExp, (all: All) => void]>([
  ['a DMA completes through a page that nobody has mapped', /reached frame 0x5 through iova 0x3000, which no mapping allowed at any time/, ({ map, reach }) => {
    map(4);
    reach(3);
  }],
  ['a DMA completes that began after the unmap returned', /which no mapping allowed/, ({ map, unmap, reach }) => {
    map(3, 4);
    unmap(3, 4);
    reach(6);
  }],
  ['a write completes through a mapping to be read only', /which no mapping allowed/, ({ map, write }) => {
    map(3, 1, 1);
    write(3);
  }],
  ['a DMA faults on what is mapped all the time', /faulted on iova 0x3000, which was mapped from before its start until after its end/, ({ map, reach }) => {
    map(3);
    reach(3, 0);
  }],
  ['a stale translation of the mapping before', /two DMAs reached two frames through one mapping of iova 0x3000: 0x6, then that of function \d\d\.\d frame 0x5/, ({ map, unmap, reach }) => {
    map(3);
    reach(3, 5);
    unmap(3);
    map(3);
    reach(3, 6);
    reach(3, 5);
  }],
])('breaks: %s', async (_, message, story) => {
  const all = await setUp();
  story(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'D3', message: expect.stringMatching(message) });
});
