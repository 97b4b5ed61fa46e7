/** VmPin, VmLck and RLIMIT_MEMLOCK: who pays for what is pinned. */
import { Capability, User } from '#src/kernel/accounting';
import { createProcess } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { MockWorld } from './mock-world.ts';

const perProcess = { optionId: 0, op: 0, objectId: 0, val64: 1n };

/** Without CAP_IPC_LOCK, `limit` pages, and a device on the IOAS. */
function setUp(limit: number, inProcessMode: boolean = false): MockWorld {
  const world = new MockWorld();
  if (inProcessMode) {
    world.destroy(world.ioasId);
    expect(world.ioctl('IOMMU_OPTION', { ...perProcess })).toBeNull();
    expect(world.ioas()).toBe(world.ioasId);
  }
  world.dropCapability(Capability.IPC_LOCK);
  world.limitPages(limit);
  expect(world.device()).toMatchObject({ hwpt: 4 });
  return world;
}

test.each([[false, { pin: 4, lck: 0, user: 4 }], [true, { pin: 4, lck: 4, user: 0 }]])(
  'up to the limit, whether its process pays (%s) or the user; one page more is ENOMEM, and pins nothing', (inProcessMode, paid) => {
    const world = setUp(4, inProcessMode);
    const va = world.memory(8);
    const iova = world.map(va, 4) as bigint;
    expect(world.accounts()).toEqual(paid);
    const before = world.ledger();
    expect(world.map(va + 4n * 4096n, 1)).toBe('ENOMEM');
    expect(world.ledger()).toEqual(before);
    expect(world.unmap(iova, 4)).toBe(0x4000n);
    expect(world.accounts()).toEqual({ pin: 0, lck: 0, user: 0 });
    expect(world.map(va, 4)).toBe(iova);
  },
);

test('a user\'s processes share one count, whose limit is the caller\'s', () => {
  const world = setUp(4);
  world.map(world.memory(3), 3);
  const other = createProcess(world.kernel, 2);
  world.kernel.enter(other);
  world.dropCapability(Capability.IPC_LOCK);
  world.limitPages(4);
  const second = openIn(world);
  expect(second(2)).toBe('ENOMEM');
  expect(second(1)).toBe(0x1000000n);
  expect(world.accounts(other)).toEqual({ pin: 1, lck: 0, user: 4 });
  world.limitPages(8);
  expect(second(4)).toBeTypeOf('bigint');
  expect(world.accounts(world.process)).toEqual({ pin: 3, lck: 0, user: 8 });
});

test('another user has a count of his own', () => {
  const world = setUp(4);
  world.map(world.memory(4), 4);
  const user = User.create(world.kernel.memory);
  world.kernel.enter(createProcess(world.kernel, 2, user));
  world.dropCapability(Capability.IPC_LOCK);
  world.limitPages(4);
  expect(openIn(world)(4)).toBe(0x1000000n);
  expect(User.lockedPages.peek(world.kernel.memory, user)).toBe(4);
});

/** Maps pages of the calling process, through an iommufd of its own with a device. */
function openIn(world: MockWorld) {
  const fd = world.openIommufd();
  const ioas = world.ioas(fd);
  world.device(ioas, 0, fd);
  return (pages: number) => world.map(world.memory(pages), pages, ioas, fd);
}

test('with CAP_IPC_LOCK there is no limit, and what was mapped so stays free of charge', () => {
  const world = new MockWorld();
  world.limitPages(0);
  world.device();
  const iova = world.map(world.memory(4), 4) as bigint;
  expect(world.accounts()).toEqual({ pin: 4, lck: 0, user: 0 });
  world.dropCapability(Capability.IPC_LOCK);
  expect(world.map(world.memory(1), 1)).toBe('ENOMEM');
  expect(world.unmap(iova, 4)).toBe(0x4000n);
  expect(world.accounts()).toEqual({ pin: 0, lck: 0, user: 0 });
});

test('a page is paid for once, however many domains and copies have it', () => {
  const world = setUp(4);
  const iova = world.map(world.memory(4), 4) as bigint;
  const other = world.ioas();
  expect(world.copy(iova, 4, other)).toBeTypeOf('bigint');
  expect(world.device(other)).toBeTypeOf('object');
  expect(world.device(other, 1)).toBeTypeOf('object');
  expect(world.accounts()).toEqual({ pin: 4, lck: 0, user: 4 });
  world.unmap(iova, 4);
  expect(world.accounts()).toEqual({ pin: 4, lck: 0, user: 4 });
});

test('who attaches pins for who mapped: over that one\'s limit the attach is ENOMEM and nothing is pinned', () => {
  const world = new MockWorld();
  world.dropCapability(Capability.IPC_LOCK);
  world.limitPages(1);
  expect(world.map(world.memory(2), 2)).toBeTypeOf('bigint');
  expect(world.accounts().pin).toBe(0);
  expect(world.device()).toBe('ENOMEM');
  expect(world.accounts()).toEqual({ pin: 0, lck: 0, user: 0 });
  world.limitPages(2);
  expect(world.device()).toBeTypeOf('object');
});

test('the mode of accounting needs CAP_SYS_RESOURCE, and says so before it looks for objects', () => {
  const world = new MockWorld();
  world.dropCapability(Capability.SYS_RESOURCE);
  expect(world.ioctl('IOMMU_OPTION', { ...perProcess, val64: 2n })).toBe('EPERM');
  expect(world.ioctl('IOMMU_OPTION', { ...perProcess, op: 1 })).toBeNull();
});
