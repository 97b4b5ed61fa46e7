import { expect, test } from 'vitest';
import type { Ref } from '#hostmem/object';
import { finishReset, prepareReset } from '#src/kernel/device-reset';
import { IommuGroup, PciDevice } from '#src/kernel/iommu-group';
import { deviceOf } from '#src/kernel/iommu-probe';
import { page } from '../kernel/vmm.ts';
import { Driven } from './driven.ts';

async function setUp() {
  const here = await Driven.create({ ats: true }, {}, ['G8']);
  const { vmm, device } = here;
  const fd = vmm.iommufd();
  const ioas = [vmm.ioas(fd), vmm.ioas(fd)];
  for (const one of ioas) vmm.map(fd, one, 0x1000, vmm.process.memory(page, one));
  const vfio = vmm.process.bind(here.group.vfio[0]!, fd);
  vmm.attach(vfio, ioas[0]!);
  const { kernel } = vmm.world;
  const member = deviceOf(kernel, device as Ref<'PciFunction'>);
  const core = PciDevice.group.peek(kernel.memory, member);
  return { here, vmm, fd, kernel, device, ioas, vfio, member, core, verdict: () => here.verdict?.message ?? here.judge.quiescence()?.message ?? null };
}

test('holds: parked, refused an attach, detached, restored; twice nested', async () => {
  const { here, vmm, kernel, device, ioas, vfio, verdict } = await setUp();
  prepareReset(kernel, device);
  expect(vmm.attach(vfio, ioas[1]!)).toBe('EBUSY');
  finishReset(kernel, device);
  expect(here.dma.read(0, 0x1000, 4)).toBe(0);
  prepareReset(kernel, device);
  prepareReset(kernel, device);
  vmm.detach(vfio);
  finishReset(kernel, device);
  finishReset(kernel, device);
  expect(verdict()).toBeNull();
});

test('breaks: the count of the group is not that of its parked members', async () => {
  const { kernel, core, verdict } = await setUp();
  IommuGroup.recoveryCount.poke(kernel.memory, core, 1);
  expect(verdict()).toBe('group 1 counts 1 members in reset, and 0 are parked');
});

test('breaks: a parked member is woken', async () => {
  const { kernel, device, core, verdict } = await setUp();
  prepareReset(kernel, device);
  kernel.driver.attach(IommuGroup.domain.peek(kernel.memory, core), device);
  expect(verdict()).toBe('function 00:05.0 of group 1 is being reset, and is not blocked');
});

test('breaks: the end of a reset restores what the group had when it began', async () => {
  const { kernel, vmm, fd, ioas, device, vfio, member, core, verdict } = await setUp();
  const before = IommuGroup.domain.peek(kernel.memory, core);
  // Another device keeps it alive.
  vmm.attach(vmm.process.bind(vmm.world.group('L').vfio[0]!, fd), ioas[0]!);
  prepareReset(kernel, device);
  vmm.detach(vfio);
  finishReset(kernel, device);
  expect(verdict()).toBeNull();
  expect(PciDevice.blocked.peek(kernel.memory, member)).toBe(0);
  kernel.driver.attach(before, device);
  expect(verdict()).toMatch(/^group 1 is on blocking, but function 00:05\.0 translates through the domain/);
});
