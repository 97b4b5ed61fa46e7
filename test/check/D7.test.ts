import { expect, test } from 'vitest';
import { Owner } from '#hostmem/frames';
import { deadTableRead, dma } from '#src/hardware/events';
import { court } from './histories.ts';

async function reach(owner: number, frame = 5): Promise<string | null> {
  const here = await court('D7');
  dma.emit(here.vmm.world.host.kernel, here.rid('A'), 0, 0x1000 | owner, frame, 0x100, 1);
  return here.verdict()?.message ?? null;
}

test('holds: a DMA reaches a process\'s frame, or none', async () => {
  expect(await reach(Owner.firstProcess + 3)).toBeNull();
  expect(await reach(Owner.FREE, 0)).toBeNull();
});

test.each([
  [Owner.FREE, 'a DMA of function 05.0 through iova 0x1000 touched frame 0x5, which is free'],
  [Owner.TABLE, 'a DMA of function 05.0 through iova 0x1000 touched frame 0x5, a page table'],
  [Owner.KERNEL, "a DMA of function 05.0 through iova 0x1000 touched frame 0x5, the kernel's"],
])('breaks: the frame belongs to owner %i', async (owner, message) => {
  expect(await reach(owner)).toBe(message);
});

test('breaks: a walk reads a table that was freed', async () => {
  const here = await court('D7');
  deadTableRead.emit(here.vmm.world.host.kernel, here.rid('A'), 5, Owner.FREE);
  expect(here.verdict()?.message).toBe('a walk for requester 0x28 read a table in frame 0x5, which is none any more');
});
