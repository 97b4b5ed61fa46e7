import { expect, test } from 'vitest';
import { DmaFlags, dma, pasidDma } from '#src/hardware/events';
import { AreaGone, AreaPlaced, DomainJoined } from '#src/kernel/events';
import { court } from './histories.ts';

const root = 0x100;
const [read, write, both] = [1, 2, 3];

async function setUp() {
  const here = await court('D8');
  const memory = here.vmm.world.host.kernel;
  const rid = here.rid('A');
  DomainJoined.emit(memory, 1, 1, root);
  const now = (): number => memory.history!.stamp();
  return {
    now,
    place: (page: number, permissions: number) => AreaPlaced.emit(memory, 1, 0, page << 12, 2, 1, permissions),
    remove: (page: number) => AreaGone.emit(memory, 1, 0, page << 12, 2, 1),
    reads: (page: number, frame = 5, begin = now()) => dma.emit(memory, rid, 0, page << 12, frame, root, begin),
    writes: (page: number, frame = 5, begin = now()) => dma.emit(memory, rid | DmaFlags.WRITE, 0, page << 12, frame, root, begin),
    writesWithPasid: (page: number) => pasidDma.emit(memory, rid | DmaFlags.WRITE, 7, page, 5, root, now()),
    verdict: () => here.verdict()?.message ?? null,
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['what is granted is done, and what is not faults', ({ place, reads, writes }) => {
    place(3, both);
    reads(3);
    writes(4);
    place(5, read);
    reads(6);
    writes(6, 0);
  }],
  ['a write that began while the mapping granted it may end when that has changed', ({ place, remove, now, writes }) => {
    place(3, both);
    const began = now();
    remove(3);
    place(3, read);
    writes(3, 5, began);
  }],
  ['what no mapping is known of is not judged here', ({ writes }) => writes(9)],
  ['what was forgotten is not held against anybody', ({ place, remove, now, writes }) => {
    const began = now();
    for (let i = 0; i < 100; i++) {
      place(3, both);
      remove(3);
    }
    place(3, read);
    writes(3, 5, began);
  }],
])('holds: %s', async (_what, tell) => {
  const all = await setUp();
  tell(all);
  expect(all.verdict()).toBeNull();
});

test.each<[string, string, (all: All) => void]>([
  ['a write through a mapping for reads', 'function 05.0 wrote frame 0x5 through iova 0x4000', ({ place, writes }) => {
    place(3, read);
    writes(4);
  }],
  ['a read through a mapping for writes', 'function 05.0 read frame 0x5 through iova 0x3000', ({ place, reads }) => {
    place(3, write);
    reads(3);
  }],
  ['a write by what a cache knows of a mapping that was replaced', 'function 05.0 wrote frame 0x5', ({ place, remove, writes }) => {
    place(3, both);
    writes(3);
    remove(3);
    place(3, read);
    writes(3);
  }],
  ['a write with a PASID', 'function 05.0 with PASID 7 wrote', ({ place, writesWithPasid }) => {
    place(3, read);
    writesWithPasid(3);
  }],
])('breaks: %s', async (_what, message, tell) => {
  const all = await setUp();
  tell(all);
  expect(all.verdict()).toContain(message);
});
