import { expect, test } from 'vitest';
import { dma } from '#src/hardware/events';
import { DriverProbes, DriverUnbound, GroupClaimed, GroupReleased } from '#src/kernel/events';
import { KernelDriver } from '#src/kernel/iommu-group';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('G10');
  const memory = here.vmm.world.host.kernel;
  const group = here.group.number;
  return {
    caught: () => here.verdict()?.message ?? null,
    claimed: () => GroupClaimed.emit(memory, group, 1),
    released: () => GroupReleased.emit(memory, group),
    probes: (driver: number = KernelDriver.DEFAULT_DOMAIN) => DriverProbes.emit(memory, group, here.rid('B'), driver),
    unbound: (driver: number = KernelDriver.DEFAULT_DOMAIN) => DriverUnbound.emit(memory, group, here.rid('B'), driver),
    dma: (frame = 5) => dma.emit(memory, here.rid('A'), 0, 0x1000, frame, 0, 1),
  };
}

test('holds: DMA under a driver of a sibling and under an owner, faults at any time', async () => {
  const { caught, claimed, released, probes, unbound, dma: reach } = await setUp();
  reach(0);
  probes();
  reach();
  unbound();
  claimed();
  reach();
  released();
  reach(0);
  expect(caught()).toBeNull();
});

test.each(['before anybody came', 'after the driver', 'after the owner', 'under a driver that manages its own DMA'])('breaks: DMA completes %s', async (when) => {
  const { caught, claimed, released, probes, unbound, dma: reach } = await setUp();
  if (when === 'after the driver') [probes, unbound].forEach((step) => step());
  if (when === 'after the owner') [claimed, released].forEach((step) => step());
  if (when.startsWith('under')) probes(KernelDriver.MANAGES_DMA);
  reach();
  expect(caught()).toBe('a DMA of function 05.0 at iova 0x1000 reached frame 0x5, and its group 1 has neither driver nor owner');
});
