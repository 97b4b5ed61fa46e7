import { expect, test } from 'vitest';
import { DriverBound, DriverUnbound, GroupClaimed, GroupReleased } from '#src/kernel/events';
import { IommuGroup, KernelDriver } from '#src/kernel/iommu-group';
import type { Ref } from '#hostmem/object';
import { court } from './histories.ts';
import { attachedGroup } from './state.ts';

async function setUp() {
  const here = await court('G3');
  const memory = here.vmm.world.host.kernel;
  const group = here.group.number;
  return {
    caught: () => here.verdict()?.message ?? null,
    claimed: (process = 1) => GroupClaimed.emit(memory, group, process),
    released: () => GroupReleased.emit(memory, group),
    bound: (driver: number = KernelDriver.DEFAULT_DOMAIN, name = 'B') => DriverBound.emit(memory, group, here.rid(name), driver),
    unbound: (driver: number = KernelDriver.DEFAULT_DOMAIN, name = 'B') => DriverUnbound.emit(memory, group, here.rid(name), driver),
  };
}

test('holds: a driver, then a user, then another user, and beside them one that manages its own DMA', async () => {
  const { caught, claimed, released, bound, unbound } = await setUp();
  bound(KernelDriver.MANAGES_DMA, 'A');
  bound();
  unbound();
  claimed();
  released();
  claimed(2);
  expect(caught()).toBeNull();
});

test('holds: claimed, attached, replaced, detached and released', async () => {
  const { vmm, fds, ioas, verdict } = await attachedGroup('G3');
  for (const step of [() => vmm.attach(fds[0]!, ioas[1]!), () => fds.forEach((fd) => vmm.detach(fd)), () => fds.forEach((fd) => vmm.close(fd))]) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('breaks: a driver binds where a user is, or a user claims where a driver is', async () => {
  for (const isDriverFirst of [true, false]) {
    const { caught, claimed, bound } = await setUp();
    for (const step of isDriverFirst ? [bound, claimed] : [claimed, bound]) step();
    expect(caught()).toBe('group 1 belongs to a user, and 1 kernel driver does DMA through its default domain');
  }
});

test('breaks: two owners', async () => {
  const { caught, claimed } = await setUp();
  claimed(1);
  claimed(2);
  expect(caught()).toBe('group 1 was claimed and has an owner');
});

test('breaks: an owned group translates through its default domain, or through another user\'s', async () => {
  const { vmm, memory, fds, core, verdict } = await attachedGroup('G3');
  IommuGroup.domain.poke(memory, core, IommuGroup.defaultDomain.peek(memory, core));
  expect(verdict()).toContain('not the owner\'s');
  const { Hwpt } = await import('#src/kernel/hwpt');
  const { contexts, bodies } = await import('#src/check/records');
  const { View } = await import('#src/check/view');
  const { Kind } = await import('#src/kernel/objects');
  const other = vmm.iommufd();
  vmm.attach(vmm.process.bind(2, other), vmm.ioas(other));
  const view = new View(vmm.world.host.buffers);
  const hwpts = contexts(view).flatMap((iommufd) => bodies<'Hwpt'>(view, iommufd, Kind.HWPT)) as Ref<'Hwpt'>[];
  IommuGroup.domain.poke(memory, core, Hwpt.domain.peek(memory, hwpts.at(-1)!));
  expect(verdict()).toContain('not the owner\'s');
  expect(fds).toHaveLength(2);
});

test('breaks: a group is released that has a member attached', async () => {
  const { memory, here, verdict } = await attachedGroup('G3');
  GroupReleased.emit(memory, here.group.number);
  expect(verdict()).toBe('group 1 was released, but a member is attached');
});

test('holds: a driver that was refused has not been there', async () => {
  const { vmm, here } = await attachedGroup('G3');
  const { bindDriver } = await import('#src/kernel/kernel-driver');
  const b = vmm.world.directory['B'] as Ref<'PciFunction'>;
  for (let i = 0; i < 2; i++) expect(() => bindDriver(vmm.world.kernel, b)).toThrow();
  GroupReleased.emit(vmm.world.host.kernel, here.other.number);
  DriverBound.emit(vmm.world.host.kernel, here.other.number, here.rid('L'), KernelDriver.DEFAULT_DOMAIN);
  expect(here.verdict()).toBeNull();
});
