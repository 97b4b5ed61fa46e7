import { expect, test } from 'vitest';
import { errnoNumber, type ErrnoName } from '#src/kernel/errno';
import { AreaTaken, MapCalled, MapReturned, UnmapCalled, UnmapReturned } from '#src/kernel/events';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('O7');
  const memory = here.vmm.world.host.kernel;
  const history = here.history;
  /** What follows is done by this actor. */
  const as = (actor: number) => void (history.actor = actor);
  const number = (errno: ErrnoName | null) => (errno === null ? 0 : errnoNumber(errno));
  const tell = {
    here,
    as,
    mapping: (page: number, pages = 1) => MapCalled.emit(memory, 1, 0, page << 12, pages, 1),
    mapped: (page: number, errno: ErrnoName | null = null, pages = 1) => MapReturned.emit(memory, 1, 0, page << 12, pages, number(errno), 1),
    unmapping: (page: number, pages = 1) => UnmapCalled.emit(memory, 1, 0, page << 12, pages, 1),
    unmapped: (page: number, errno: ErrnoName | null = null, pages = 1) => UnmapReturned.emit(memory, 1, 0, page << 12, pages, number(errno), 1),
    closed: (page: number) => AreaTaken.emit(memory, 1, 0, page << 12, 1, 1),
  };
  return {
    ...tell,
    map(page: number, errno: ErrnoName | null = null, pages = 1) {
      tell.mapping(page, pages);
      tell.mapped(page, errno, pages);
    },
    unmap(page: number, errno: ErrnoName | null = null, pages = 1) {
      tell.unmapping(page, pages);
      tell.unmapped(page, errno, pages);
    },
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['one after the other', ({ map, unmap }) => {
    map(3);
    map(3, 'EEXIST');
    unmap(3);
    unmap(3, 'ENOENT');
  }],
  ['what was there before is not known', ({ map, unmap }) => {
    map(3, 'EEXIST');
    unmap(3);
    unmap(4, 'ENOENT');
  }],
  ['a map that is refused while an unmap runs came before it', ({ as, map, unmapping, unmapped }) => {
    map(3);
    as(1);
    unmapping(3);
    as(2);
    map(3, 'EEXIST');
    as(1);
    unmapped(3);
  }],
  ['a failure for want of something else', ({ map }) => {
    map(3);
    map(3, 'ENOMEM');
  }],
  ['somebody else took the mapping', ({ map, closed }) => {
    map(3);
    closed(3);
    map(3);
  }],
  ['a range that overlaps another one is not judged', ({ map, unmap }) => {
    map(3, null, 2);
    unmap(4, 'ENOENT');
    map(3);
  }],
])('holds: %s', async (_, story) => {
  const all = await setUp();
  story(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, (all: All) => void]>([
  ['two maps of one range succeed with nothing between', ({ map }) => {
    map(3);
    map(3);
  }],
  ['two unmaps of one mapping succeed at once', ({ as, map, unmapping, unmapped }) => {
    map(3);
    for (const actor of [1, 2]) {
      as(actor);
      unmapping(3);
    }
    for (const actor of [1, 2]) {
      as(actor);
      unmapped(3);
    }
  }],
  ['a map is refused after the unmap had returned', ({ map, unmap }) => {
    map(3);
    unmap(3);
    map(3, 'EEXIST');
  }],
])('breaks: %s', async (_, story) => {
  const all = await setUp();
  story(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'O7', message: expect.stringMatching(/^no order of the calls for iova 0x3000 of IOAS 1 gives their answers: /) });
});
