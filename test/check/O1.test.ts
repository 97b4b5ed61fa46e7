import { expect, test } from 'vitest';
import type { Ref } from '#hostmem/object';
import { allowPasid, disallowPasid } from '#src/kernel/mdev';
import { fileOf, IommufdObject, lockObject, putObject } from '#src/kernel/objects';
import { File } from '#src/kernel/open-file';
import { IommuGroup } from '#src/kernel/iommu-group';
import { IommufdGroup } from '#src/kernel/iommufd-group';
import { Process } from '#src/kernel/process';
import { attachedGroup, virtualised } from './state.ts';

test('holds: attached, replaced, detached, with a foreign device on the HWPT, and when only a device keeps the context', async () => {
  const { vmm, fds, fd, ioas, hwpt, verdict } = await attachedGroup('O1');
  const lone = vmm.process.bind(2, fd);
  for (const step of [
    () => vmm.attach(lone, hwpt),
    () => vmm.attach(fds[0]!, ioas[1]!),
    () => vmm.detach(fds[1]!),
    () => vmm.close(fd),
    () => vmm.close(fds[0]!),
    () => vmm.close(lone),
  ]) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('holds: a share of a function keeps the HWPT that it reaches, and its context', async () => {
  const { vmm, fd, hwpt, verdict } = await attachedGroup('O1');
  const { kernel, directory } = vmm.world;
  vmm.world.share('share', 'L');
  vmm.enter();
  allowPasid(kernel, directory['share'] as Ref<'Mdev'>, 5, fd, hwpt);
  expect(verdict()).toBeNull();
  disallowPasid(kernel, directory['share'] as Ref<'Mdev'>, 5);
  expect(verdict()).toBeNull();
});

test.each<[string, number, string]>([
  ['an IOAS', 1, 'IOAS 1'],
  ['a HWPT', 5, 'HWPT 5'],
  ['a device', 3, 'device 3'],
])('breaks: %s has a user too many, or too few', async (_, id, name) => {
  for (const change of [1, -1]) {
    const { memory, object, verdict } = await attachedGroup('O1');
    const users = IommufdObject.users.peek(memory, object(id));
    IommufdObject.users.poke(memory, object(id), users + change);
    expect(verdict()).toBe(`${name} has users ${users + change}, ${users} refer to it`);
  }
});

test('breaks: somebody has not left a call, also in a context that only a device keeps', async () => {
  const { vmm, fd, object, verdict, memory } = await attachedGroup('O1');
  const { kernel } = vmm.world;
  const target = object(1);
  lockObject(kernel, target);
  expect(verdict()).toMatch(/^IOAS 1 has users 3, 2 refer to it$/);
  IommufdObject.users.add(memory, target, -1);
  expect(verdict()).toBe('IOAS 1 has wait count 2 while nobody is inside a call');
  vmm.close(fd);
  expect(verdict()).toBe('IOAS 1 has wait count 2 while nobody is inside a call');
  IommufdObject.users.add(memory, target, 1);
  putObject(kernel, target);
  expect(verdict()).toBeNull();
});

test('holds: nested HWPTs, vIOMMUs, vdevices, queues with their descriptors, accesses', async () => {
  const { vmm, viommu, vdevice, verdict } = await virtualised('O1');
  const data = new Uint8Array(8);
  const queue = { flags: 0, viommuId: viommu, type: 1, depth: 1, outEventQueueId: 0, outEventQueueFd: 0 };
  const hwQueue = { flags: 0, viommuId: viommu, type: 7, index: 0, nestingParentIova: 0x1000n, length: 4096n, outHwQueueId: 0 };
  const fault = { flags: 0, outFaultId: 0, outFaultFd: 0 };
  const nested = { flags: 4, devId: 2, ptId: viommu, dataType: 7, dataLength: 8, data, faultId: 0, outHwptId: 0 };
  vmm.map(vmm.fd, vmm.ioasId, 0x1000, vmm.process.memory(4096));
  const steps = [
    () => vmm.hwpt(0, viommu, data),
    () => vmm.ioctl(vmm.fd, 'IOMMU_VEVENTQ_ALLOC', queue),
    () => vmm.ioctl(vmm.fd, 'IOMMU_HW_QUEUE_ALLOC', hwQueue),
    () => vmm.ioctl(vmm.fd, 'IOMMU_HW_QUEUE_ALLOC', { ...hwQueue, index: 1 }),
    () => vmm.ioctl(vmm.fd, 'IOMMU_FAULT_QUEUE_ALLOC', fault),
    () => vmm.ioctl(vmm.fd, 'IOMMU_HWPT_ALLOC', { ...nested, faultId: fault.outFaultId }),
    () => vmm.process.access(vmm.fd, vmm.ioasId),
    () => vmm.destroy(vmm.fd, vdevice),
    () => vmm.vdevice(viommu, 6n),
    () => vmm.close(vmm.vfio),
    () => vmm.close(queue.outEventQueueFd),
  ];
  for (const step of steps) {
    const answer = step();
    expect(answer === null || answer === undefined || typeof answer === 'number', String(answer)).toBe(true);
    expect(verdict()).toBeNull();
  }
  vmm.close(vmm.fd);
  expect(verdict()).toBeNull();
});

test('breaks: a vdevice does not keep its device from going', async () => {
  const { vmm, object, verdict } = await virtualised('O1');
  IommufdObject.waitCount.add(vmm.world.host.kernel, object(2), -1);
  expect(verdict()).toBe('device 2 has wait count 0 while nobody is inside a call');
});

test('breaks: a context, a file, a group or a claim is counted once too often', async () => {
  const { vmm, memory, fds, iommufd, group, core, verdict } = await attachedGroup('O1');
  File.references.add(memory, fileOf(iommufd), 1);
  expect(verdict()).toMatch(/^a context has (\d+) references, \d+ keep it$/);
  File.references.add(memory, fileOf(iommufd), -1);
  const file = Process.files.get(memory, vmm.process.ref, fds[0]! - 2);
  File.references.add(memory, file, 1);
  expect(verdict()).toBe('a file has 2 references, 1 keep it');
  File.references.add(memory, file, -1);
  IommufdGroup.references.poke(memory, group, 3);
  expect(verdict()).toBe('group 1 has 3 references in its context, 2 of its devices are bound');
  IommufdGroup.references.poke(memory, group, 2);
  IommuGroup.ownerCount.poke(memory, core, 1);
  expect(verdict()).toBe('group 1 is claimed 1 times, 2 of its devices are bound');
});
