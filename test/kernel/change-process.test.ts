/** CHANGE_PROCESS: who pays for what a context has mapped, from now on. */
import { Capability } from '#src/kernel/accounting';
import { fork } from '#src/kernel/fork';
import { expect, test } from 'vitest';
import { runWith } from './at-point.ts';
import { MockWorld } from './mock-world.ts';
import { page } from './vmm.ts';

/** Two IOASes in process mode, three pages of a file in the first, a copy of two of them and another page in the second; all pinned. */
function setUp() {
  const world = new MockWorld();
  world.destroy(world.ioasId);
  world.ioctl('IOMMU_OPTION', { optionId: 0, op: 0, objectId: 0, val64: 1n });
  world.dropCapability(Capability.IPC_LOCK);
  const [first, second] = [world.ioas(), world.ioas()];
  world.device(first);
  world.device(second);
  const file = world.memfd(4);
  const iova = world.mapFile(file, 3 * page, 0, 6, first) as bigint;
  expect(world.copy(iova, 2, second, first)).toBeTypeOf('bigint');
  expect(world.mapFile(file, page, 3 * page, 6, second)).toBeTypeOf('bigint');
  expect(world.accounts()).toEqual({ pin: 4, lck: 4, user: 0 });
  const child = fork(world.kernel, 2);
  world.kernel.enter(child);
  return { world, child, first, iova };
}

test('everything pinned in all IOASes moves to the caller, each page once', () => {
  const { world, child, first, iova } = setUp();
  expect(world.changeProcess()).toBeNull();
  expect([world.accounts(world.process), world.accounts(child)]).toEqual([{ pin: 0, lck: 0, user: 0 }, { pin: 4, lck: 4, user: 0 }]);
  expect(world.changeProcess()).toBeNull();
  expect(world.accounts(child)).toEqual({ pin: 4, lck: 4, user: 0 });
  world.unmap(iova, 3, first);
  // The copy has two of the three.
  expect(world.accounts(child)).toEqual({ pin: 3, lck: 3, user: 0 });
});

test('over the caller\'s limit nothing moves', () => {
  const { world, child } = setUp();
  world.limitPages(3);
  const before = world.ledger();
  expect(world.changeProcess()).toBe('ENOMEM');
  expect([world.ledger(), world.accounts(world.process)]).toEqual([before, { pin: 4, lck: 4, user: 0 }]);
  world.limitPages(4);
  expect(world.changeProcess()).toBeNull();
  expect(world.accounts(child).lck).toBe(4);
});

test('memory of a process cannot change hands, nor can a dma-buf, whatever else is mapped', () => {
  const { world, first } = setUp();
  const iova = world.map(world.memory(), 1, first) as bigint;
  expect(world.changeProcess()).toBe('EINVAL');
  world.unmap(iova, 1, first);
  const dmabuf = world.test('IOMMU_TEST_DMABUF_GET', { length: page }) as number;
  expect(world.mapFile(dmabuf, page, 0, 6, first)).toBeTypeOf('bigint');
  expect(world.changeProcess()).toBe('EINVAL');
  expect([world.accounts(world.process).pin, world.accounts().pin]).toEqual([4, 0]);
});

test('while a mapping is not finished it is EBUSY', () => {
  const { world, first } = setUp();
  const file = world.memfd(1);
  const seen: unknown[] = [];
  // It takes the lock to take the range, and again to publish the mapping.
  runWith(world.kernel.memory, 'RMW Ioas.iovaRwsem', 2, () => seen.push(world.changeProcess()), () => world.mapFile(file, page, 0, 6, first));
  expect(seen).toEqual(['EBUSY']);
  expect(world.changeProcess()).toBeNull();
});

test('a reserved field is refused, and without any mapping there is nothing to do', () => {
  const world = new MockWorld();
  expect([world.ioctl('IOMMU_IOAS_CHANGE_PROCESS', { reserved: 1 }), world.changeProcess()]).toEqual(['EOPNOTSUPP', null]);
});
