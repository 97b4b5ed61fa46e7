import { expect, test } from 'vitest';
import { Owner } from '#hostmem/frames';
import { dma } from '#src/hardware/events';
import { VfioCall, VfioCalled, VfioReturned } from '#src/kernel/events';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('D10');
  const memory = here.vmm.world.host.kernel;
  const group = here.group.number;
  return {
    here,
    bound: (process: number, errno = 0) => VfioReturned.emit(memory, VfioCall.BIND, 0, group, 0, errno, process),
    closing: () => VfioCalled.emit(memory, VfioCall.CLOSE, 0, group, 0, 1),
    reach: (process: number) => dma.emit(memory, here.rid('B'), 0, 0x1000 | (Owner.firstProcess + process), 5, 0x100, 1),
  };
}

test('holds: the frames of the process that bound the group, and after another bind the frames of that one', async () => {
  const { here, bound, closing, reach } = await setUp();
  bound(1);
  reach(1);
  bound(2, 3);
  reach(1);
  closing();
  bound(2);
  reach(2);
  expect(here.verdict()).toBeNull();
});

test('holds: nobody is known to own the group', async () => {
  const { here, reach } = await setUp();
  reach(4);
  expect(here.verdict()).toBeNull();
});

test('breaks: another process\'s frame', async () => {
  const { here, bound, reach } = await setUp();
  bound(1);
  reach(2);
  expect(here.verdict()?.message).toBe(
    'a DMA of function 05.1 through iova 0x1000 reached frame 0x5 of process 2, but its group belongs to process 1',
  );
});

test('breaks: the owner is read off the records where the bind was before the history', async () => {
  const { here, reach } = await setUp();
  const { vmm } = here;
  vmm.process.bind(0, vmm.iommufd());
  here.history.reset();
  reach(9);
  expect(here.verdict()?.invariant).toBe('D10');
});
