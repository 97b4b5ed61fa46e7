import { expect, test } from 'vitest';
import { Access } from '#src/kernel/access';
import { DeviceGoes } from '#src/kernel/events';
import { Iommufd } from '#src/kernel/objects';
import { File } from '#src/kernel/open-file';
import { Process } from '#src/kernel/process';
import { TestAccess } from '#src/kernel/selftest/test-access';
import { attachedGroup, virtualised } from './state.ts';

test('holds: all that lies in a vIOMMU, until its device is unbound, and behind that', async () => {
  const { vmm, memory, viommu, judge, verdict } = await virtualised('O4');
  expect(vmm.ioctl(vmm.fd, 'IOMMU_VEVENTQ_ALLOC', { flags: 0, viommuId: viommu, type: 1, depth: 1, outEventQueueId: 0, outEventQueueFd: 0 })).toBeNull();
  expect(vmm.hwpt(0, viommu, new Uint8Array(8))).toEqual(expect.any(Number));
  expect(verdict()).toBeNull();
  vmm.close(vmm.vfio);
  DeviceGoes.emit(memory, 1, 2);
  expect(judge.moment(DeviceGoes.kind)).toBeNull();
  expect(verdict()).toBeNull();
});

test('breaks: a vdevice is there when its device is not found any more, and when it is freed', async () => {
  const { memory, iommufd, vdevice, judge, verdict } = await virtualised('O4');
  Iommufd.objects.erase(memory, iommufd, 2);
  DeviceGoes.emit(memory, 1, 2);
  expect(judge.moment(DeviceGoes.kind)).toMatchObject({ invariant: 'O4', message: `vdevice ${vdevice} stands for a device that is unbound` });
  expect(verdict()).toBe(`vdevice ${vdevice} stands for a device that is unbound`);
});

test.each([
  ['a nest parent', 'parent', 'vIOMMU 4 is there, its HWPT is not'],
  ['a vIOMMU', 'viommu', 'vdevice 5 is there, its vIOMMU is not'],
] as const)('breaks: %s is gone before what lies on it', async (_, which, message) => {
  const here = await virtualised('O4');
  Iommufd.objects.erase(here.memory, here.iommufd, here[which]);
  expect(here.verdict()).toBe(message);
});

test('breaks: an HWPT has an IOAS that is gone', async () => {
  const { memory, iommufd, hwpt, ioas, verdict } = await attachedGroup('O4');
  Iommufd.objects.erase(memory, iommufd, ioas[0]!);
  expect(verdict()).toBe(`HWPT ${hwpt} is there, its IOAS is not`);
});

test('breaks: an access is attached to an IOAS that does not list it', async () => {
  const { vmm, memory, fd, ioas, body, verdict } = await attachedGroup('O4');
  const access = vmm.process.access(fd, ioas[0]!);
  expect(verdict()).toBeNull();
  const owner = File.body.peek(memory, Process.files.get(memory, vmm.process.ref, access - 2));
  Access.ioas.poke(memory, TestAccess.access.peek(memory, owner), body<'Ioas'>(ioas[1]!));
  expect(verdict()).toMatch(/^access \d+ is attached to an IOAS that does not know of it$/);
});
