import { dmaOwnerShift, pasidDma } from '#src/hardware/events';
import { PasidMoved, PasidMoves } from '#src/kernel/events';
import { expect, test } from 'vitest';
import { court, type Court } from './histories.ts';

const [mine, other] = [0x100, 0x200];
const pasid = 5;

async function setUp() {
  const here = await court('G9');
  const memory = here.vmm.world.host.kernel;
  const { number } = here.group;
  return {
    here,
    stamp: () => here.history.stamp(),
    moves: (to: number, from = 0) => PasidMoves.emit(memory, number, pasid, from, to, 1),
    moved: (to: number) => PasidMoved.emit(memory, number, pasid, to),
    dma: (root: number, { name = 'B', tag = pasid, frame = 7, begin = here.history.stamp() } = {}) =>
      pasidDma.emit(memory, here.rid(name), tag | (16 << dmaOwnerShift), 1, frame, root, begin),
  };
}
type All = Awaited<ReturnType<typeof setUp>>;
const caught = (here: Court) => here.verdict()?.invariant ?? null;

/** The PASID goes through `mine`. */
function grant({ moves, moved }: All): void {
  moves(mine);
  moved(mine);
}

test.each<[string, (all: All) => void]>([
  ['a member reaches what the PASID is authorised for', (all) => {
    grant(all);
    all.dma(mine);
  }],
  ['it does so while the call that authorises has not returned', ({ moves, dma }) => {
    moves(mine);
    dma(mine);
  }],
  ['a DMA that began before the call that takes it back ends behind it', (all) => {
    grant(all);
    const begin = all.stamp();
    all.moves(0, mine);
    all.moved(0);
    all.dma(mine, { begin });
  }],
  ['old and new are reached while it is replaced', (all) => {
    grant(all);
    all.moves(other, mine);
    all.dma(mine);
    all.dma(other);
  }],
  ['anything faults', ({ dma }) => dma(mine, { frame: 0 })],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(caught(all.here)).toBeNull();
});

test.each<[string, (all: All) => void]>([
  ['nobody authorised anything', ({ dma }) => dma(mine)],
  ['another number is authorised', (all) => {
    grant(all);
    all.dma(mine, { tag: 6 });
  }],
  ['a device of another group names the number', (all) => {
    grant(all);
    all.dma(mine, { name: 'L' });
  }],
  ['it reaches another address space', (all) => {
    grant(all);
    all.dma(other);
  }],
  ['it was taken back', (all) => {
    grant(all);
    all.moves(0, mine);
    all.moved(0);
    all.dma(mine);
  }],
  ['a replace has left the old one', (all) => {
    grant(all);
    all.moves(other, mine);
    all.moved(other);
    all.dma(mine);
  }],
  ['an attach that failed was put back', (all) => {
    all.moves(mine);
    all.moved(0);
    all.dma(mine);
  }],
])('breaks: a DMA with a PASID completes where %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(caught(all.here)).toBe('G9');
});
