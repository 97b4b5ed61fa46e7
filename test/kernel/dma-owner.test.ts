import type { Ref } from '#hostmem/object';
import { IommuGroup, KernelDriver, PciDevice } from '#src/kernel/iommu-group';
import { groupOf } from '#src/kernel/iommu-probe';
import { bindDriver, unbindDriver } from '#src/kernel/kernel-driver';
import { HwptFlag } from '#src/kernel/hwpt';
import { allowPasid, disallowPasid } from '#src/kernel/mdev';
import { finishReset, prepareReset } from '#src/kernel/device-reset';
import { World, type WorldOptions } from '#src/world';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

/** A group of two, A with a character device that a VMM may open. */
function setUp(options: Partial<WorldOptions> = {}) {
  const vmm = new Vmm(new World(options));
  const { world } = vmm;
  const group = world.group('A', 'B');
  const fd = vmm.iommufd();
  const ioas = [1, 2].map((tag) => {
    const id = vmm.ioas(fd);
    vmm.map(fd, id, 0x1000, vmm.process.memory(page, tag));
    return id;
  }) as [number, number];
  const functionOf = (name: string) => world.directory[name] as Ref<'PciFunction'>;
  return {
    vmm, fd, ioas, group,
    core: groupOf(world.kernel, functionOf('A')),
    bind: (name: string, driver?: KernelDriver) => errnoOf(() => bindDriver(world.kernel, functionOf(name), driver)),
    unbind: (name: string) => unbindDriver(world.kernel, functionOf(name)),
    prepare: (name: string) => prepareReset(world.kernel, functionOf(name)),
    finish: (name: string) => finishReset(world.kernel, functionOf(name)),
  };
}

test('several drivers share a group; a user gets it when the last has left', () => {
  const { vmm, fd, group, bind, unbind } = setUp();
  expect([bind('A'), bind('B')]).toEqual([null, null]);
  const vfio = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(vfio, fd)).toBe('EPERM');
  unbind('A');
  expect(vmm.bindTo(vfio, fd)).toBe('EPERM');
  unbind('B');
  expect(vmm.bindTo(vfio, fd)).toBeTypeOf('number');
});

test('a driver is refused a group that a user owns, attached or not; one that manages its own DMA is not', () => {
  const { vmm, fd, ioas, group, bind, unbind } = setUp();
  const vfio = vmm.process.bind(group.vfio[0]!, fd);
  expect([bind('B'), bind('B', KernelDriver.MANAGES_DMA)]).toEqual(['EBUSY', null]);
  unbind('B');
  vmm.attach(vfio, ioas[0]);
  expect(bind('B')).toBe('EBUSY');
  vmm.close(vfio);
  expect(bind('B')).toBeNull();
});

test('while a PASID of the group is attached, neither a second driver nor a user gets the group', () => {
  const { vmm, fd, ioas, group, bind, unbind } = setUp({ iommu: 'vtd-scalable', pasids: true });
  const { kernel, directory } = vmm.world;
  const own = vmm.process.bound(vmm.world.group('own').vfio[0]!, fd);
  const hwpt = vmm.process.hwpt(fd, own.deviceId, ioas[0], HwptFlag.PASID);
  vmm.world.share('share', 'A');
  vmm.enter();
  expect([bind('A'), errnoOf(() => allowPasid(kernel, directory['share'] as Ref<'Mdev'>, 5, fd, hwpt)), bind('B')]).toEqual([null, null, 'EBUSY']);
  unbind('A');
  const vfio = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(vfio, fd)).toBe('EBUSY');
  disallowPasid(kernel, directory['share'] as Ref<'Mdev'>, 5);
  expect([bind('A'), bind('B')]).toEqual([null, null]);
  for (const name of ['A', 'B']) unbind(name);
  expect(vmm.bindTo(vfio, fd)).toBeTypeOf('number');
});

test('without a default domain a driver has to wait', () => {
  const { vmm, core, bind } = setUp();
  IommuGroup.defaultDomain.poke(vmm.world.host.kernel, core, 0 as Ref<'IommuDomain'>);
  expect(bind('A')).toBe('EPROBE_DEFER');
});

test('a group with a member that firmware has use memory 1:1 cannot be claimed, and stays as it was', () => {
  const { vmm, fd, group } = setUp();
  vmm.world.requireDirect('B');
  const before = vmm.ledger();
  const vfio = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(vfio, fd)).toBe('EINVAL');
  vmm.close(vfio);
  expect(vmm.ledger()).toEqual(before);
  // Both have the empty default domain, in which nothing is mapped.
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual(['fault 6', 'fault 6']);
});

test('iommu=pt: who has no driver reaches the host before the claim and after the release, and only then (7.2)', () => {
  const { vmm, fd, ioas, group } = setUp({ defaultDomain: 'identity' });
  const secret = vmm.world.buffer('vmm', 1, 0x5ec2e7) * page;
  expect(vmm.sees('A', secret)).toBe(0x5ec2e7);
  const vfio = vmm.process.bind(group.vfio[0]!, fd);
  expect([vmm.sees('A', secret), vmm.sees('B', secret)]).toEqual(['fault 2', 'fault 2']);
  vmm.attach(vfio, ioas[0]);
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000), vmm.sees('A', secret)]).toEqual([1, 1, 'fault 6']);
  vmm.detach(vfio);
  expect(vmm.sees('A', secret)).toBe('fault 2');
  vmm.close(vfio);
  expect([vmm.sees('A', secret), vmm.sees('B', secret)]).toEqual([0x5ec2e7, 0x5ec2e7]);
});

test('a reset parks one member, its group keeps its domain, and neither attach nor replace moves it meanwhile', () => {
  const { vmm, fd, ioas, group, core, prepare, finish } = setUp({ ats: true });
  const vfio = group.vfio.map((number) => vmm.process.bind(number, fd));
  for (const device of vfio) vmm.attach(device, ioas[0]);
  prepare('A');
  prepare('A');
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000), vmm.attach(vfio[1]!, ioas[1])]).toEqual(['fault 2', 1, 'EBUSY']);
  finish('A');
  expect([vmm.sees('A', 0x1000), vmm.attach(vfio[1]!, ioas[1])]).toEqual(['fault 2', 'EBUSY']);
  finish('A');
  expect([vmm.sees('A', 0x1000), IommuGroup.recoveryCount.peek(vmm.world.host.kernel, core)]).toEqual([1, 0]);
  expect(vmm.attach(vfio[1]!, ioas[1])).toBeTypeOf('number');
});

test('a detach passes by the member in reset, which is blocked when the reset is over', () => {
  const { vmm, fd, ioas, group, core, prepare, finish } = setUp({ ats: true });
  const vfio = vmm.process.bind(group.vfio[0]!, fd);
  vmm.attach(vfio, ioas[0]);
  prepare('B');
  expect(vmm.detach(vfio)).toBeNull();
  finish('B');
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual(['fault 2', 'fault 2']);
  const members = IommuGroup.members.peek(vmm.world.host.kernel, core);
  expect(PciDevice.blocked.peek(vmm.world.host.kernel, members)).toBe(0);
});

test('a function without ATS is not parked', () => {
  const { vmm, fd, ioas, group, prepare } = setUp();
  const vfio = vmm.process.bind(group.vfio[0]!, fd);
  vmm.attach(vfio, ioas[0]);
  prepare('A');
  expect([vmm.sees('A', 0x1000), vmm.attach(vfio, ioas[1])]).toEqual([1, expect.any(Number)]);
});
