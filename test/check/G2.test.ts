import { expect, test } from 'vitest';
import { NULL } from '#hostmem/object';
import { HwptRecorded, VfioCall, VfioCalled, VfioReturned } from '#src/kernel/events';
import { IommufdDevice } from '#src/kernel/iommufd-device';
import { IommufdGroup } from '#src/kernel/iommufd-group';
import { Iommufd } from '#src/kernel/objects';
import { attachedGroup } from './state.ts';

test('holds: bound, attached, replaced, partly detached, detached, closed, and with the iommufd closed', async () => {
  const { vmm, fds, fd, ioas, verdict } = await attachedGroup('G2');
  const steps = [
    () => vmm.attach(fds[0]!, ioas[1]!),
    () => vmm.attach(fds[1]!, 99),
    () => vmm.detach(fds[0]!),
    () => vmm.detach(fds[1]!),
    () => vmm.attach(fds[1]!, ioas[0]!),
    () => vmm.close(fd),
    () => vmm.close(fds[0]!),
    () => vmm.close(fds[1]!),
  ];
  expect(verdict()).toBeNull();
  for (const step of steps) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('holds: the group that a refused bind leaves to its owner', async () => {
  const { vmm, memory, core, verdict } = await attachedGroup('G2');
  const other = vmm.iommufd();
  // As it stands in the middle of a bind by another context: a record of the group, which it does not own.
  const files = vmm.world.kernel;
  const { Process } = await import('#src/kernel/process');
  const { File } = await import('#src/kernel/open-file');
  const iommufd = File.body.peek(memory, Process.files.get(memory, vmm.process.ref, other - 2));
  const record = IommufdGroup.create(files.memory);
  IommufdGroup.group.poke(memory, record, core);
  Iommufd.groups.poke(memory, iommufd, record);
  expect(verdict()).toBeNull();
});

test('breaks: the record names another HWPT than the group', async () => {
  const { vmm, memory, fds, ioas, group, body, hwpt, verdict } = await attachedGroup('G2');
  // Another device keeps the old HWPT alive.
  const lone = vmm.process.bind(2, 3);
  vmm.attach(lone, hwpt);
  const moved = vmm.attach(fds[0]!, ioas[1]!) as number;
  IommufdGroup.hwpt.poke(memory, group, body<'Hwpt'>(hwpt));
  expect(verdict()).toBe(`device 4 of group 1 is recorded on HWPT ${hwpt} of IOAS ${ioas[0]}, but the group and its hardware translate through HWPT ${moved} of IOAS ${ioas[1]}`);
});

test('breaks: a device\'s own record names another HWPT', async () => {
  const { memory, vmm, devices, fds, ioas, body, hwpt, verdict } = await attachedGroup('G2');
  vmm.attach(vmm.process.bind(2, 3), hwpt);
  vmm.attach(fds[0]!, ioas[1]!);
  IommufdDevice.hwpt.poke(memory, body<'IommufdDevice'>(devices[0]!), body<'Hwpt'>(hwpt));
  expect(verdict()).toMatch(/^device 3 of group 1 is recorded on/);
});

test('breaks: nobody is attached and the group is not blocked', async () => {
  const { memory, group, verdict } = await attachedGroup('G2');
  IommufdGroup.hwpt.poke(memory, group, NULL);
  IommufdGroup.attached.poke(memory, group, NULL);
  expect(verdict()).toBe('nobody of group 1 is attached, but the group is not blocked');
});

test('breaks: a record without members, and a member that is not bound', async () => {
  const one = await attachedGroup('G2');
  IommufdGroup.attached.poke(one.memory, one.group, NULL);
  expect(one.verdict()).toMatch(/with 0 members attached$/);
  const two = await attachedGroup('G2');
  Iommufd.objects.erase(two.memory, two.iommufd, two.devices[0]!);
  expect(two.verdict()).toBe('a device of group 1 is attached that is not bound');
});

test('breaks: the hardware is elsewhere', async () => {
  const { vmm, verdict } = await attachedGroup('G2');
  const { driver } = vmm.world.kernel;
  driver.attach(driver.blockedDomain, vmm.world.directory['A'] as Parameters<typeof driver.attach>[1]);
  expect(verdict()).toMatch(/^group 1 is on .* translates through blocking$/);
});

test.each([VfioCall.ATTACH, VfioCall.REPLACE, VfioCall.DETACH, VfioCall.CLOSE])('is silent about a group while call %s of it runs, not about others', async (what) => {
  const { memory, group, body, vmm, fds, ioas, hwpt, here } = await attachedGroup('G2');
  vmm.attach(vmm.process.bind(2, 3), hwpt);
  vmm.attach(fds[0]!, ioas[1]!);
  IommufdGroup.hwpt.poke(memory, group, body<'Hwpt'>(hwpt));
  VfioCalled.emit(memory, what, 0, here.group.number, 1, 1);
  VfioCalled.emit(memory, what, 2, here.other.number, 1, 1);
  VfioReturned.emit(memory, what, 2, here.other.number, 1, 0, 1);
  expect(here.judge.moment(VfioReturned.kind)).toBeNull();
  VfioReturned.emit(memory, what, 0, here.group.number, 1, 0, 1);
  expect(here.judge.moment(VfioReturned.kind)?.invariant).toBe('G2');
});


test('breaks: a device is recorded that is not attached', async () => {
  const { memory, here, vmm, fds, devices } = await attachedGroup('G2');
  vmm.detach(fds[1]!);
  HwptRecorded.emit(memory, here.group.number, devices[0]!, 6);
  expect(here.judge.moment(HwptRecorded.kind)).toBeNull();
  HwptRecorded.emit(memory, here.group.number, devices[1]!, 6);
  expect(here.judge.moment(HwptRecorded.kind)?.message).toBe('group 1 was moved for device 4, which is not attached: the record does not have it');
});
