import { Access } from '#hostmem/page-table-format';
import { dma, DmaFlags } from '#src/hardware/events';
import { AreaPlaced, DomainJoined, GroupMoved, GroupMoves, MapReturned } from '#src/kernel/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

const roots = [0x71, 0x72] as const;
const both = 4;
const onlyOld = 5;

/** A group behind a VT-d unit, which is declared to break before it makes, and two IOASes; of two pages the second has one. */
async function setUp() {
  const here = await court('D11');
  const memory = here.vmm.world.host.kernel;
  roots.forEach((root, index) => {
    DomainJoined.emit(memory, index + 1, 1, root, 0);
    for (const page of index === 0 ? [both, onlyOld] : [both]) {
      AreaPlaced.emit(memory, index + 1, 0, page << 12, 1, 1, Access.READ);
      MapReturned.emit(memory, index + 1, 0, page << 12, 1, 0, 1);
    }
  });
  return {
    moves: () => GroupMoves.emit(memory, here.group.number, ...roots),
    moved: () => GroupMoved.emit(memory, here.group.number, roots[1]),
    read: (page: number, reason: number, name = 'A') =>
      dma.emit(memory, here.rid(name) | (reason << DmaFlags.reasonShift), 0, page << 12, reason === 0 ? 9 : 0, 0, here.history.stamp()),
    verdict: () => here.verdict()?.message ?? null,
  };
}

test('holds: what both map is reached, what one maps faults, and before and after the move nothing is asked', async () => {
  const { moves, moved, read, verdict } = await setUp();
  read(both, 2);
  moves();
  read(both, 0);
  read(onlyOld, 6);
  read(both, 2, 'L');
  moved();
  read(both, 2);
  expect(verdict()).toBeNull();
});

test.each(['A', 'B'])('breaks: what both map faults in the move, for %s of the group', async (name) => {
  const { moves, moved, read, verdict } = await setUp();
  moves();
  read(both, 2, name);
  moved();
  expect(verdict()).toMatch(/^a DMA of function 05\.[01] faulted on iova 0x4000, reason 0x2, which the old domain of its group maps and the new one too$/);
});
