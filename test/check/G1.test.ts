import { expect, test } from 'vitest';
import type { Ref } from '#hostmem/object';
import { GroupMoved } from '#src/kernel/events';
import { IommuGroup } from '#src/kernel/iommu-group';
import { attachedGroup } from './state.ts';

const functionOf = (all: Awaited<ReturnType<typeof attachedGroup>>, name: string) => all.vmm.world.directory[name] as Ref<'PciFunction'>;

test('holds: claimed, attached, replaced, detached and released', async () => {
  const all = await attachedGroup('G1');
  const { vmm, fds, ioas, verdict } = all;
  expect(verdict()).toBeNull();
  vmm.attach(fds[0]!, ioas[1]!);
  expect(verdict()).toBeNull();
  for (const device of fds) vmm.detach(device);
  expect(verdict()).toBeNull();
  for (const device of fds) vmm.close(device);
  expect(verdict()).toBeNull();
});

test('breaks: one member is blocked, one translates through another domain, one not at all', async () => {
  for (const kind of ['blocked', 'identity', 'other'] as const) {
    const all = await attachedGroup('G1');
    const { driver } = all.vmm.world.kernel;
    const target = functionOf(all, 'B');
    const domain = kind === 'blocked' ? driver.blockedDomain : kind === 'identity' ? driver.identityDomain : driver.allocPagingDomain(target, 0);
    expect(driver.attach(domain, target)).toBe(0);
    expect(all.verdict()).toMatch(/^group 1 is on the domain with root frame .*, but function 00:05\.1 translates through (blocking|identity|the domain)/);
  }
});

test('a group whose mutex is held is left alone, but for the one that has just moved', async () => {
  const all = await attachedGroup('G1');
  const { memory, core, here, vmm } = all;
  const { driver } = vmm.world.kernel;
  driver.attach(driver.blockedDomain, functionOf(all, 'B'));
  // What happened before this is folded, and not the last thing that happened.
  expect(here.judge.quiescence()?.invariant).toBe('G1');
  IommuGroup.mutex.acquire(memory, core);
  expect(here.judge.quiescence()).toBeNull();
  GroupMoved.emit(memory, IommuGroup.number.peek(memory, core), 1);
  expect(here.judge.moment(GroupMoved.kind)?.invariant).toBe('G1');
  expect(here.judge.quiescence()).toBeNull();
  IommuGroup.mutex.release(memory, core);
  expect(here.judge.quiescence()?.invariant).toBe('G1');
});
