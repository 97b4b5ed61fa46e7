import { expect, test } from 'vitest';
import { Owner } from '#hostmem/frames';
import { dma } from '#src/hardware/events';
import { GroupClaimed, GroupReleased } from '#src/kernel/events';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('D10');
  const memory = here.vmm.world.host.kernel;
  const group = here.group.number;
  return {
    here,
    claimed: (process: number) => GroupClaimed.emit(memory, group, process),
    released: () => GroupReleased.emit(memory, group),
    reach: (process: number) => dma.emit(memory, here.rid('B'), 0, 0x1000 | (Owner.firstProcess + process), 5, 0x100, 1),
  };
}

test('holds: the frames of the process that claimed the group, and after another claim the frames of that one', async () => {
  const { here, claimed, released, reach } = await setUp();
  claimed(1);
  reach(1);
  released();
  claimed(2);
  reach(2);
  expect(here.verdict()).toBeNull();
});

test('holds: nobody is known to own the group', async () => {
  const { here, claimed, released, reach } = await setUp();
  reach(4);
  claimed(1);
  released();
  reach(4);
  expect(here.verdict()).toBeNull();
});

test('breaks: another process\'s frame', async () => {
  const { here, claimed, reach } = await setUp();
  claimed(1);
  reach(2);
  expect(here.verdict()?.message).toBe(
    'a DMA of function 05.1 through iova 0x1000 reached frame 0x5 of process 2, but its group belongs to process 1',
  );
});
