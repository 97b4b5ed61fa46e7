import { expect, test } from 'vitest';
import { NULL } from '#hostmem/object';
import { HwptLinked } from '#src/kernel/events';
import { Hwpt } from '#src/kernel/hwpt';
import { Ioas } from '#src/kernel/ioas';
import { IommufdDevice } from '#src/kernel/iommufd-device';
import { IommufdGroup } from '#src/kernel/iommufd-group';
import { page } from '../kernel/vmm.ts';
import { attachedGroup } from './state.ts';

test('holds: mapped, allowed, attached, replaced and detached', async () => {
  const { vmm, fd, fds, ioas, devices, verdict } = await attachedGroup('P5');
  const steps = [
    () => vmm.map(fd, ioas[0]!, 0x10_0000, vmm.process.memory(2 * page), 2 * page),
    () => vmm.allow(fd, ioas[0]!, [0x20_0000n, 0x30_0000n]),
    () => vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 0, devId: devices[0]!, ptId: ioas[0]!, outHwptId: 0 }),
    () => vmm.attach(fds[0]!, ioas[1]!),
    () => vmm.process.access(fd, ioas[0]!),
    () => vmm.detach(fds[0]!),
    () => vmm.unmap(fd, ioas[0]!, 0x10_0000, 2 * page),
  ];
  for (const step of steps) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('breaks: an HWPT is linked twice, which is seen when it is', async () => {
  const { memory, here, body, ioas, hwpt } = await attachedGroup('P5');
  const own = body<'Hwpt'>(hwpt);
  Hwpt.next.poke(memory, own, own);
  HwptLinked.emit(memory, ioas[0]!, hwpt, 1);
  expect(here.judge.moment(HwptLinked.kind)).toMatchObject({ invariant: 'P5', message: 'the list of HWPTs of IOAS 1 comes back to one that it has named before' });
});

test('breaks: an HWPT is in no list, or in another IOAS\'s', async () => {
  const { memory, body, ioas, hwpt, verdict } = await attachedGroup('P5');
  Ioas.hwpts.poke(memory, body<'Ioas'>(ioas[0]!), NULL);
  expect(verdict()).toBe(`HWPT ${hwpt} is not on the list of IOAS 1`);
  Ioas.hwpts.poke(memory, body<'Ioas'>(ioas[0]!), body<'Hwpt'>(hwpt));
  Ioas.hwpts.poke(memory, body<'Ioas'>(ioas[1]!), body<'Hwpt'>(hwpt));
  expect(verdict()).toBe('the list of IOAS 2 names an HWPT of another IOAS');
});

test.each([
  ['two mappings overlap', 'areas', 0x1000, 'two mappings of IOAS 1 overlap'],
  ['a mapping lies in a reserved range', 'reserved', 0x1000, 'a mapping of IOAS 1 lies in a reserved range'],
] as const)('breaks: %s', async (_, tree, iova, message) => {
  const { memory, body, ioas, verdict } = await attachedGroup('P5');
  const own = body<'Ioas'>(ioas[0]!);
  Ioas[tree].insert(memory, own, 0, iova, 0, iova + 0xfff, Ioas.areas.value(memory, Ioas.areas.first(memory, own, 0, 0, -1, -1)));
  expect(verdict()).toBe(message);
});

test('breaks: an allowed range is reserved', async () => {
  const { memory, body, ioas, verdict } = await attachedGroup('P5');
  Ioas.allowed.insert(memory, body<'Ioas'>(ioas[0]!), 0, 0xfee00000 | 0, 0, 0xfee00fff | 0, NULL);
  expect(verdict()).toBe('an allowed range of IOAS 1 is reserved');
});

test('breaks: a device says that it is attached and is not on the list of its group', async () => {
  const { memory, body, devices, group, verdict } = await attachedGroup('P5');
  IommufdDevice.attached.poke(memory, body<'IommufdDevice'>(devices[0]!), 0);
  expect(verdict()).toBe(`device ${devices[0]} and the list of its group do not agree whether it is attached`);
  const last = body<'IommufdDevice'>(devices[1]!);
  IommufdDevice.nextAttached.poke(memory, last, last);
  IommufdGroup.attached.poke(memory, group, last);
  expect(verdict()).toBe('the list of attached members of a group comes back to one that it has named before');
});
