import { FlushReturned, LeavesCleared, TablesFreed } from '#src/drivers/events';
import { Iotlb } from '#src/hardware/iotlb';
import { PciFunction } from '#src/hardware/function';
import { IommuUnit } from '#src/hardware/unit';
import { WalkCache } from '#src/hardware/walk-cache';
import type { Frame } from '#hostmem/memory';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

const root = 0x100;

async function setUp() {
  const here = await court('C2');
  const memory = here.vmm.world.host.kernel;
  return {
    here,
    memory,
    clear: (page: number, pages: number) => LeavesCleared.emit(memory, root, 0, page << 12, pages),
    flush: (page: number, pages: number, of = root) => FlushReturned.emit(memory, of, 0, page << 12, pages, 1),
    verdict: () => here.verdict()?.message ?? null,
  };
}

test('holds: the flush is of what was cleared, of more, of the whole domain, or of another domain', async () => {
  const { clear, flush, verdict } = await setUp();
  clear(4, 4);
  flush(0, 1, root + 1);
  flush(4, 4);
  clear(4, 4);
  flush(0, 16);
  clear(4, 4);
  clear(100, 1);
  flush(0, 0);
  expect(verdict()).toBeNull();
});

test.each([[5, 4], [4, 3], [0, 4], [8, 4]])('breaks: cleared is [4, 8), flushed are %i + %i', async (first, pages) => {
  const { clear, flush, verdict } = await setUp();
  clear(4, 4);
  flush(first, pages);
  expect(verdict()).toMatch(/^\[0x4000, 0x7fff\] was cleared, but only \[/);
});

test('breaks: a paging-structure cache leads to a table that was freed', async () => {
  const { here, memory, verdict } = await setUp();
  const { host, directory } = here.vmm.world;
  const unit = PciFunction.unit.peek(memory, directory['A']!);
  const cache = new WalkCache(memory, IommuUnit.walkCache.peek(memory, unit), Iotlb.epoch.address(memory, IommuUnit.iotlb.peek(memory, unit)));
  const table = host.frames.allocate(2);
  cache.fill(5, 0, 0x5000, 0, table as Frame, 1, 3, Iotlb.epoch.peek(memory, IommuUnit.iotlb.peek(memory, unit)));
  TablesFreed.emit(memory, root);
  expect(verdict()).toBeNull();
  host.frames.drop(table);
  TablesFreed.emit(memory, root);
  expect(verdict()).toBe(`a paging-structure cache leads to frame 0x${table.toString(16)}, which is no page table any more`);
});
