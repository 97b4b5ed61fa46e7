import { expect, test } from 'vitest';
import { Ioas } from '#src/kernel/ioas';
import { msiWindow } from '#src/kernel/iommufd-reserved';
import { reserve, unreserve } from '#src/kernel/iopt-ranges';
import { high, low } from '#src/kernel/u64';
import { attachedGroup } from './state.ts';

test('holds: attached, replaced, one detached, both detached', async () => {
  const { vmm, fds, ioas, verdict } = await attachedGroup('G5');
  expect(verdict()).toBeNull();
  const steps = [() => vmm.attach(fds[0]!, ioas[1]!), () => vmm.detach(fds[0]!), () => vmm.detach(fds[1]!)];
  for (const step of steps) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('breaks: the window of an attached device is not reserved', async () => {
  const { vmm, body, ioas, devices, verdict } = await attachedGroup('G5');
  unreserve(vmm.world.kernel, body<'Ioas'>(ioas[0]!), body<'IommufdDevice'>(devices[0]!));
  expect(verdict()).toBe(`IOAS ${ioas[0]} does not reserve the interrupt window of an attached device`);
});

test('breaks: an IOAS that the group left still reserves it', async () => {
  const { vmm, body, ioas, devices, verdict } = await attachedGroup('G5');
  reserve(vmm.world.kernel, body<'Ioas'>(ioas[1]!), msiWindow.start, msiWindow.last, body<'IommufdDevice'>(devices[1]!));
  expect(verdict()).toBe(`IOAS ${ioas[1]} still reserves the interrupt window of an attached device`);
});

test('breaks: a mapping lies in the window', async () => {
  const { memory, body, ioas, verdict } = await attachedGroup('G5');
  const { start } = msiWindow;
  Ioas.areas.insert(memory, body<'Ioas'>(ioas[0]!), high(start), low(start), high(start), low(start) | 0xfff, body<'Ioas'>(ioas[0]!));
  expect(verdict()).toBe('a mapping lies in the reserved window of an attached device');
});
