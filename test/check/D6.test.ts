import { expect, test } from 'vitest';
import { dma, pasidDma } from '#src/hardware/events';
import { errnoNumber } from '#src/kernel/errno';
import { GroupBlocked, GroupReleased, ResetEnds, ResetPrepared, VfioCall, VfioCalled, VfioReturned } from '#src/kernel/events';
import { page } from '../kernel/vmm.ts';
import { countOf, court, type Court } from './histories.ts';

async function setUp() {
  const here = await court('D6');
  const memory = here.vmm.world.host.kernel;
  const group = here.group.number;
  return {
    here,
    blocked: () => GroupBlocked.emit(memory, group),
    released: () => GroupReleased.emit(memory, group),
    prepared: (name = 'B') => ResetPrepared.emit(memory, group, here.rid(name)),
    resetEnds: (name = 'B') => ResetEnds.emit(memory, group, here.rid(name)),
    called: (what: number, device = 0) => VfioCalled.emit(memory, what, device, group, 1, 1),
    returned: (what: number, errno = 0, device = 0) => VfioReturned.emit(memory, what, device, group, 7, errno, 1),
    pasidDma: (frame = 5, name = 'B') => pasidDma.emit(memory, here.rid(name), 5, 1, frame, 0x100, 1),
    dma: (frame = 5, name = 'B') => dma.emit(memory, here.rid(name), 0, 0x1000, frame, 0x100, 1),
  };
}
type All = Awaited<ReturnType<typeof setUp>>;
const caught = (here: Court) => here.verdict()?.invariant ?? null;
const einval = errnoNumber('EINVAL');

test.each<[string, (all: All) => void]>([
  ['a DMA of a blocked group faults', ({ blocked, dma: reach }) => {
    blocked();
    reach(0);
  }],
  ['another group does DMA', ({ blocked, dma: reach }) => {
    blocked();
    reach(5, 'L');
  }],
  ['a DMA completes before the block, while an attach runs, and after it', ({ blocked, called, returned, dma: reach }) => {
    reach();
    blocked();
    called(VfioCall.ATTACH);
    reach();
    returned(VfioCall.ATTACH);
    reach();
  }],
  ['a second attach is refused while the first holds', ({ blocked, called, returned, dma: reach }) => {
    blocked();
    called(VfioCall.ATTACH);
    called(VfioCall.ATTACH, 1);
    returned(VfioCall.ATTACH);
    returned(VfioCall.ATTACH, einval, 1);
    reach();
  }],
  ['a sibling is being reset, or the reset is over', ({ prepared, resetEnds, dma: reach }) => {
    prepared('A');
    reach();
    prepared();
    resetEnds();
    reach();
  }],
  ['a DMA with a PASID completes while the requests without one are blocked', ({ blocked, pasidDma: reach }) => {
    blocked();
    reach();
  }],
  ['a DMA with a PASID faults in the middle of a reset', ({ prepared, pasidDma: reach }) => {
    prepared();
    reach(0);
  }],
  ['the group was released', ({ blocked, released, dma: reach }) => {
    blocked();
    released();
    reach();
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(caught(all.here)).toBeNull();
});

test.each<[string, (all: All) => void]>([
  ['after the claim', ({ blocked, dma: reach }) => {
    blocked();
    reach();
  }],
  ['after the last detach', ({ blocked, called, returned, dma: reach }) => {
    called(VfioCall.ATTACH);
    returned(VfioCall.ATTACH);
    called(VfioCall.DETACH);
    blocked();
    returned(VfioCall.DETACH);
    reach();
  }],
  ['in the middle of the reset of its function', ({ prepared, dma: reach }) => {
    prepared();
    reach();
  }],
  ['with a PASID, in the middle of the reset of its function', ({ prepared, pasidDma: reach }) => {
    prepared();
    reach();
  }],
  ['after an attach that was refused', ({ blocked, called, returned, dma: reach }) => {
    blocked();
    called(VfioCall.ATTACH);
    returned(VfioCall.ATTACH, einval);
    reach();
  }],
  ['after an attach that failed when it had switched the group', ({ blocked, called, returned, dma: reach }) => {
    called(VfioCall.ATTACH);
    blocked();
    returned(VfioCall.ATTACH, einval);
    reach();
  }],
])('breaks: a DMA completes %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(caught(all.here)).toBe('D6');
});

test('the kernel tells of a block at the claim, at the last detach and at the failure of a first attach', async () => {
  const { here } = await setUp();
  const { vmm } = here;
  const blocks = () => countOf(here.history, GroupBlocked.kind);
  const fd = vmm.iommufd();
  const [good, bad] = [vmm.ioas(fd), vmm.ioas(fd)];
  vmm.map(fd, bad, 1n << 50n, vmm.process.memory(page));
  const fds = here.group.vfio.map((number) => vmm.process.bind(number, fd));
  expect(blocks()).toBe(1);
  expect(vmm.attach(fds[0]!, bad)).toBe('EADDRINUSE');
  expect(blocks()).toBe(2);
  for (const device of fds) vmm.attach(device, good);
  vmm.detach(fds[0]!);
  expect(blocks()).toBe(2);
  vmm.detach(fds[1]!);
  expect([blocks(), countOf(here.history, GroupReleased.kind)]).toEqual([3, 0]);
  for (const device of fds) vmm.close(device);
  expect([blocks(), countOf(here.history, GroupReleased.kind)]).toEqual([3, 1]);
  expect(caught(here)).toBeNull();
});
