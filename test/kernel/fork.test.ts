/** fork(2) and exit(2): what a child has of its parent, and what stays of a process that is gone. */
import { Capability } from '#src/kernel/accounting';
import { exit, fork } from '#src/kernel/fork';
import { mmapPrivate, munmap, Process, userAddress } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { MockWorld } from './mock-world.ts';
import { errnoOf, page } from './vmm.ts';

test('shared memory is one, private memory two, and the addresses are the same', () => {
  const world = new MockWorld();
  const shared = world.memory();
  const own = mmapPrivate(world.kernel, world.process, page, true, null);
  world.store(shared, 1);
  world.store(own, 2);
  world.kernel.enter(fork(world.kernel, 2));
  expect([world.load(shared), world.load(own)]).toEqual([[1], [2]]);
  world.store(shared, 3);
  world.store(own, 4);
  world.kernel.enter(world.process);
  expect([world.load(shared), world.load(own)]).toEqual([[3], [2]]);
});

test('a child has the descriptors, the capabilities and the limit, and nothing pinned', () => {
  const world = new MockWorld();
  world.dropCapability(Capability.IPC_LOCK);
  world.limitPages(3);
  world.device();
  world.map(world.memory(2), 2);
  const child = fork(world.kernel, 2);
  world.kernel.enter(child);
  expect(world.accounts()).toEqual({ pin: 0, lck: 0, user: 2 });
  const va = world.memory(2);
  expect([world.map(va, 2), world.map(va, 1)]).toEqual(['ENOMEM', expect.any(BigInt)]);
  world.close(world.fd);
  world.kernel.enter(world.process);
  expect(world.ioas()).toBeTypeOf('number');
});

test('a context lives until the last process that has it is gone', () => {
  const world = new MockWorld();
  const before = world.host.frames.inUse;
  world.device();
  const child = fork(world.kernel, 2);
  world.close(world.fd);
  world.kernel.enter(child);
  expect(world.map(world.memory())).toBeTypeOf('bigint');
  exit(world.kernel);
  expect(world.host.frames.inUse).toBe(before);
  expect(world.accounts(child)).toEqual({ pin: 0, lck: 0, user: 0 });
});

test('memory of a process that is gone cannot be pinned; what is pinned can still be mapped elsewhere and read', () => {
  const world = new MockWorld();
  const child = fork(world.kernel, 2);
  world.kernel.enter(child);
  const va = world.memory();
  world.store(va, 9);
  world.map(va);
  const pinned = world.ioas();
  world.device(pinned);
  const iova = world.map(va, 1, pinned) as bigint;
  exit(world.kernel);
  world.kernel.enter(world.process);
  expect(world.device()).toBe('EFAULT');
  expect(world.device(pinned, 1)).toBeTypeOf('object');
  const access = { id: pinned, flags: 0, outAccessFd: 0 };
  expect(world.test('IOMMU_TEST_CREATE_ACCESS', access)).toBe(0);
  const rw = { fd: access.outAccessFd, flags: 0, iova, length: 1n, buffer: new Uint8Array(1) };
  expect(world.test('IOMMU_TEST_ACCESS_RW', rw)).toBe(0);
  expect([...rw.buffer]).toEqual([9]);
});

test('in process mode nobody can be charged who is gone', () => {
  const world = new MockWorld();
  world.destroy(world.ioasId);
  world.ioctl('IOMMU_OPTION', { optionId: 0, op: 0, objectId: 0, val64: 1n });
  const ioas = world.ioas();
  world.kernel.enter(fork(world.kernel, 2));
  world.dropCapability(Capability.IPC_LOCK);
  expect(world.mapFile(world.memfd(1), page, 0, 6, ioas)).toBeTypeOf('bigint');
  exit(world.kernel);
  world.kernel.enter(world.process);
  expect(world.device(ioas)).toBe('EINVAL');
});

test('a process that ends gives all of its memory back', () => {
  const world = new MockWorld();
  const before = world.host.frames.inUse;
  const child = fork(world.kernel, 2);
  world.kernel.enter(child);
  const va = world.memory(3);
  munmap(world.kernel, child, va + 4096n, 4096n);
  exit(world.kernel);
  expect(world.host.frames.inUse).toBe(before);
  expect(errnoOf(() => userAddress(world.kernel, child, va))).toBe('EFAULT');
  expect(Process.gone.peek(world.kernel.memory, child)).toBe(1);
});
