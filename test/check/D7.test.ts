import { expect, test } from 'vitest';
import { Owner } from '#hostmem/frames';
import { deadTableRead, dma, dmaOwnerShift, pasidDma } from '#src/hardware/events';
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

test.each([[Owner.FREE, 'free'], [Owner.TABLE, 'a page table']])('breaks: a DMA with a PASID reaches a frame of owner %i', async (owner, what) => {
  const here = await court('D7');
  pasidDma.emit(here.vmm.world.host.kernel, here.rid('A'), 9 | (owner << dmaOwnerShift), 1, 5, 0x100, 1);
  expect(here.verdict()?.message).toMatch(`a DMA of function 05.0 with PASID 9 through iova 0x1000 touched frame 0x5, ${what === 'free' ? 'which is free' : what}`);
});

test('holds: a DMA with a PASID reaches a process\'s frame', async () => {
  const here = await court('D7');
  pasidDma.emit(here.vmm.world.host.kernel, here.rid('A'), 9 | ((Owner.firstProcess + 3) << dmaOwnerShift), 1, 5, 0x100, 1);
  expect(here.verdict()).toBeNull();
});

test('breaks: a walk reads a table that was freed', async () => {
  const here = await court('D7');
  deadTableRead.emit(here.vmm.world.host.kernel, here.rid('A'), 5, Owner.FREE);
  expect(here.verdict()?.message).toBe('a walk for requester 0x28 read a table in frame 0x5, which is none any more');
});
