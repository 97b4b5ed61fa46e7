import { expect, test } from 'vitest';
import { LeavesCleared, TablesFreed } from '#src/drivers/events';
import { DmaMapped, DmaUnmapped } from '#src/kernel/events';
import { court } from './histories.ts';

const root = 0x100;

async function setUp() {
  const here = await court('D9');
  const memory = here.vmm.world.host.kernel;
  return {
    map: (page: number, pages = 1, of = root) => DmaMapped.emit(memory, of, 0, page << 12, pages),
    clear: (page: number, pages = 1) => LeavesCleared.emit(memory, root, 0, page << 12, pages),
    unmapped: (page: number, pages = 1) => DmaUnmapped.emit(memory, root, 0, page << 12, pages, 0),
    freed: () => TablesFreed.emit(memory, root),
    verdict: () => here.verdict()?.message ?? null,
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['an address is given again behind its clearing, before its unmap has returned to who called', ({ map, clear, unmapped }) => {
    map(3, 2);
    clear(3, 2);
    map(4);
    unmapped(3, 2);
    map(3);
  }],
  ['a mapping that came to nothing', ({ map, unmapped }) => {
    map(3);
    unmapped(3);
    map(3);
  }],
  ['two domains, and one that takes the root of another', ({ map, freed }) => {
    map(3);
    map(3, 1, 0x200);
    freed();
    map(3);
  }],
])('holds: %s', async (_what, tell) => {
  const all = await setUp();
  tell(all);
  expect(all.verdict()).toBeNull();
});

test('breaks: two mappings share a page', async () => {
  const { map, clear, verdict } = await setUp();
  map(3, 4);
  clear(3);
  map(5);
  expect(verdict()).toBe('iova 0x5000 of the domain with root table 0x100 is mapped by two');
});
