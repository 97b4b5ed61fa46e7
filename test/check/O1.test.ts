import { expect, test } from 'vitest';
import { IommufdObject, lockObject, putObject } from '#src/kernel/objects';
import { attachedGroup } from './state.ts';

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
