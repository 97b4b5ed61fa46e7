import { FlushCalled, FlushReturned, LeavesCleared } from '#src/drivers/events';
import { dma } from '#src/hardware/events';
import { DmaMapped, DmaUnmapped, IovaFreed } from '#src/kernel/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

const root = 0x100;

async function setUp() {
  const here = await court('D2');
  const memory = here.vmm.world.host.kernel;
  return {
    map: (page: number) => DmaMapped.emit(memory, root, 0, page << 12, 1),
    free: (page: number) => IovaFreed.emit(memory, root, 0, page << 12, 1),
    clear: (page: number) => LeavesCleared.emit(memory, root, 0, page << 12, 1),
    returned: (page: number, lazy: boolean) => DmaUnmapped.emit(memory, root, 0, page << 12, 1, lazy ? 1 : 0),
    flushBegins: () => FlushCalled.emit(memory, root, 0, 0, 0, 0),
    flushEnds: () => FlushReturned.emit(memory, root, 0, 0, 0, 0),
    reach: (page: number) => dma.emit(memory, here.rid('A'), 0, page << 12, 5, root, 1),
    verdict: () => here.verdict()?.message ?? null,
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['a lazy unmap lets a DMA pass until the flush', ({ clear, returned, reach, flushBegins, flushEnds, free, map }) => {
    clear(3);
    returned(3, true);
    reach(3);
    flushBegins();
    reach(3);
    flushEnds();
    free(3);
    map(3);
    reach(3);
  }],
  ['a flush that began before does not count, and nobody says that it does', ({ clear, returned, reach, flushBegins, flushEnds }) => {
    flushBegins();
    clear(3);
    returned(3, true);
    flushEnds();
    reach(3);
  }],
])('holds: %s', async (_claim, story) => {
  const here = await setUp();
  story(here);
  expect(here.verdict()).toBeNull();
});

test.each<[string, RegExp, (all: All) => void]>([
  ['a DMA after the flush', /completed through iova 0x3000 .* after the flush behind its unmap/, ({ clear, returned, reach, flushBegins, flushEnds }) => {
    clear(3);
    returned(3, true);
    flushBegins();
    flushEnds();
    reach(3);
  }],
  ['a DMA after a strict unmap', /completed through iova 0x3000/, ({ clear, returned, reach }) => {
    clear(3);
    returned(3, false);
    reach(3);
  }],
  ['an IOVA that is free because of a flush that began before', /^iova 0x3000 is free again/, ({ clear, returned, free, flushBegins, flushEnds }) => {
    flushBegins();
    clear(3);
    returned(3, true);
    flushEnds();
    free(3);
  }],
])('breaks: %s', async (_claim, message, story) => {
  const here = await setUp();
  story(here);
  expect(here.verdict()).toMatch(message);
});
