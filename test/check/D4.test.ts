import { expect, test } from 'vitest';
import { dma, dmaOwnerShift, pasidDma } from '#src/hardware/events';
import { GroupMoved, GroupMoves, PasidMoved, PasidMoves, UNTRANSLATED } from '#src/kernel/events';
import { page } from '../kernel/vmm.ts';
import { court, type Court } from './histories.ts';

/** Roots of two domains, and of one that the group never had. */
const [first, second, third] = [0x100, 0x200, 0x300];

async function setUp() {
  const here = await court('D4');
  const memory = here.vmm.world.host.kernel;
  const group = here.group.number;
  return {
    here,
    moves: (from: number, to: number) => GroupMoves.emit(memory, group, from, to),
    moved: (to: number) => GroupMoved.emit(memory, group, to),
    pasidMoves: (from: number, to: number) => PasidMoves.emit(memory, group, 9, from, to, 1),
    pasidMoved: (to: number) => PasidMoved.emit(memory, group, 9, to),
    dmaByPasid: (root: number, begin = here.history.stamp(), pasid = 9) => pasidDma.emit(memory, here.rid('A'), pasid | (16 << dmaOwnerShift), 1, 5, root, begin),
    /** A DMA that began at `begin` (now, by default) and ends now. */
    dma: (root: number, begin = here.history.stamp(), frame = 5, name = 'A') => dma.emit(memory, here.rid(name), 0, 0x1000, frame, root, begin),
  };
}
const caught = (here: Court) => here.verdict()?.invariant ?? null;

test('holds: old and new while a move runs, the new one after it, by every member', async () => {
  const { here, moves, moved, dma: reach } = await setUp();
  reach(third);
  moves(first, second);
  reach(first);
  reach(second);
  reach(first, undefined, 5, 'B');
  moved(second);
  reach(second, undefined, 5, 'B');
  expect(caught(here)).toBeNull();
});

test('holds: a DMA that began before a move ended may still have reached the old domain', async () => {
  const { here, moves, moved, dma: reach } = await setUp();
  moves(first, second);
  const begin = here.history.stamp();
  moved(second);
  reach(first, begin);
  expect(caught(here)).toBeNull();
});

test('holds: what faulted has reached nothing, and other groups are other groups', async () => {
  const { here, moves, moved, dma: reach } = await setUp();
  moves(first, second);
  moved(second);
  reach(third, undefined, 0);
  reach(third, undefined, 5, 'L');
  expect(caught(here)).toBeNull();
});

test('holds: a group that is put back a hundred times has its old domain', async () => {
  const { here, moves, moved, dma: reach } = await setUp();
  for (let time = 0; time < 100; time++) {
    moves(first, second);
    moved(first);
  }
  reach(first);
  expect(caught(here)).toBeNull();
});

test('holds: a group that is put back has its old domain', async () => {
  const { here, moves, moved, dma: reach } = await setUp();
  moves(first, second);
  moved(first);
  reach(first);
  expect(caught(here)).toBeNull();
});

test('holds: a PASID moves by itself, and what it began with it may end with', async () => {
  const { here, moves, moved, pasidMoves, pasidMoved, dma: reach, dmaByPasid } = await setUp();
  moves(0, first);
  moved(first);
  pasidMoves(0, second);
  dmaByPasid(second);
  const begin = here.history.stamp();
  pasidMoved(second);
  pasidMoves(second, third);
  pasidMoved(third);
  dmaByPasid(second, begin);
  dmaByPasid(third);
  dmaByPasid(first, begin, 8);
  reach(first);
  expect(caught(here)).toBeNull();
});

test.each<[string, (all: Awaited<ReturnType<typeof setUp>>) => void]>([
  ['what its group has without PASID', ({ dmaByPasid }) => dmaByPasid(first)],
  ['the old domain after its PASID was replaced', ({ pasidMoves, pasidMoved, dmaByPasid }) => {
    pasidMoves(second, third);
    pasidMoved(third);
    dmaByPasid(second);
  }],
  ['the domain of a PASID that is blocked', ({ pasidMoves, pasidMoved, dmaByPasid }) => {
    pasidMoves(second, 0);
    pasidMoved(0);
    dmaByPasid(second);
  }],
])('breaks: a DMA with a PASID reaches %s', async (_, happen) => {
  const all = await setUp();
  all.moves(0, first);
  all.moved(first);
  all.pasidMoves(0, second);
  all.pasidMoved(second);
  happen(all);
  expect(caught(all.here)).toBe('D4');
});

test.each<[string, (all: Awaited<ReturnType<typeof setUp>>) => void]>([
  ['the old domain after the move', ({ moves, moved, dma: reach }) => {
    moves(first, second);
    moved(second);
    reach(first);
  }],
  ['a third domain during it', ({ moves, dma: reach }) => {
    moves(first, second);
    reach(third);
  }],
  ['the new domain after the group was put back', ({ moves, moved, dma: reach }) => {
    moves(first, second);
    moved(first);
    reach(second);
  }],
  ['the new domain by a DMA that ended before the move began', ({ moves, moved, dma: reach }) => {
    moves(0, first);
    moved(first);
    reach(second);
    moves(first, second);
  }],
  ['memory untranslated', ({ moves, moved, dma: reach }) => {
    moves(first, second);
    moved(second);
    reach(0);
  }],
  ['any domain while blocked', ({ moves, moved, dma: reach }) => {
    moves(first, 0);
    moved(0);
    reach(first);
  }],
])('breaks: a DMA reaches %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(caught(all.here)).toBe('D4');
});

test('holds: a group that left an identity domain may have reached memory untranslated until then', async () => {
  const { here, moves, moved, dma: reach } = await setUp();
  moves(UNTRANSLATED, first);
  reach(0);
  moved(first);
  expect(caught(here)).toBeNull();
  reach(0);
  expect(caught(here)).toBe('D4');
});

test('holds on real moves, also after hundreds of them', async () => {
  const here = await court('D4');
  const { vmm } = here;
  const fd = vmm.iommufd();
  const ioas = [1, 2].map((tag) => {
    const id = vmm.ioas(fd);
    vmm.map(fd, id, 0x1000, vmm.process.memory(page, tag));
    return id;
  });
  const device = vmm.process.bind(here.group.vfio[0]!, fd);
  for (let round = 0; round < 300; round++) {
    expect(here.history.overflowed).toBe(false);
    if (round % 50 === 49) {
      expect(caught(here)).toBeNull();
      here.history.clear();
      here.judge.nextSlice();
    }
    vmm.attach(device, ioas[round % 2]!);
    expect(vmm.sees('B', 0x1000)).toBe(1 + (round % 2));
    if (round % 7 === 0) vmm.detach(device);
    vmm.sees('A', 0x1000);
  }
  expect(here.history.overflowed).toBe(false);
  expect(caught(here)).toBeNull();
});
