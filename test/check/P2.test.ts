import { expect, test } from 'vitest';
import { AreaPlaced, AreaTaken, MapCalled, UnmapCalled, UnmapReturned } from '#src/kernel/events';
import { page } from '../kernel/vmm.ts';
import { court } from './histories.ts';
import { attachedGroup } from './state.ts';

const unmapper = 1;
const mapper = 2;

async function setUp() {
  const { history, judge, vmm } = await court('P2');
  const memory = vmm.world.host.kernel;
  const as = (actor: number): void => void (history.actor = actor);
  return {
    verdict: () => judge.quiescence()?.message ?? null,
    unmap(pages: number) {
      as(unmapper);
      UnmapCalled.emit(memory, 1, 0, 0, pages, 1);
    },
    takes(iova: number, actor = unmapper) {
      as(actor);
      AreaTaken.emit(memory, 1, 0, iova, 1, 1);
    },
    unmapped() {
      as(unmapper);
      UnmapReturned.emit(memory, 1, 0, 0, 1, 0, 1);
    },
    map(iova: number, ioas = 1) {
      as(mapper);
      MapCalled.emit(memory, ioas, 0, iova, 1, 1);
      AreaPlaced.emit(memory, ioas, 0, iova, 1, 1);
    },
  };
}

test('holds: an unmap removes what was there before, and what was mapped ahead of it', async () => {
  const { verdict, unmap, takes, unmapped, map } = await setUp();
  map(0);
  map(0x1000);
  unmap(3);
  takes(0);
  map(0x2000);
  takes(0x1000);
  takes(0x2000);
  unmapped();
  map(0);
  unmap(1);
  takes(0);
  expect(verdict()).toBeNull();
});

test('breaks: an unmap removes what was mapped where it has been', async () => {
  const { verdict, unmap, takes, map } = await setUp();
  map(0);
  map(0x1000);
  unmap(2);
  takes(0);
  map(0);
  takes(0);
  expect(verdict()).toBe('an unmap removed the mapping at iova 0x0, which began after it and where it had been already');
});

test('holds: another IOAS, another actor, and a map that began before the unmap', async () => {
  const { verdict, unmap, takes, map } = await setUp();
  map(0);
  unmap(2);
  takes(0);
  map(0, 2);
  takes(0);
  map(0);
  takes(0, mapper);
  expect(verdict()).toBeNull();
});

test('the kernel tells of what it maps and unmaps', async () => {
  const { vmm, fd, ioas, verdict } = await attachedGroup('P2');
  for (let round = 0; round < 3; round++) {
    expect(vmm.map(fd, ioas[0]!, 0x2000, vmm.process.memory(page))).toBeNull();
    expect(vmm.unmap(fd, ioas[0]!, 0x2000, page)).toBe(BigInt(page));
  }
  expect(verdict()).toBeNull();
});
