/** What pins the memory of a hardware queue, on the mock IOMMU with its pages of 2 KiB. */
import { viommuType } from '#src/drivers/mock/viommu';
import type { ErrnoName } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { firstIova, MockWorld } from './mock-world.ts';
import { page, U64 } from './vmm.ts';

const NEST_PARENT = 1;
const FIXED = 7;
const FIXED_WRITE_ONLY = 3;
const half = 2048;

/** A vIOMMU on a nest parent of the IOAS, and four pages of memory that lie side by side. */
function setUp() {
  const world = new MockWorld();
  const { ioasId } = world;
  const device = world.device() as { idev: number };
  const viommu = { flags: 0, type: viommuType, devId: device.idev, hwptId: world.hwpt(device.idev, NEST_PARENT) as number, outViommuId: 0 };
  expect(world.ioctl('IOMMU_VIOMMU_ALLOC', viommu)).toBeNull();
  const map = (iova: bigint, userVa: bigint, length: number = page, flags: number = FIXED) =>
    world.ioctl('IOMMU_IOAS_MAP', { flags, ioasId, userVa, length: BigInt(length), iova });
  const queue = (nestingParentIova: bigint, length: bigint | number, index: number = 0): number | ErrnoName => {
    const arg = { flags: 0, viommuId: viommu.outViommuId, type: viommuType, index, nestingParentIova, length: BigInt(length), outHwQueueId: 0 };
    return world.ioctl('IOMMU_HW_QUEUE_ALLOC', arg) ?? arg.outHwQueueId;
  };
  const alignment = (): bigint => {
    const arg = { ioasId, numIovas: 9, ranges: [], outIovaAlignment: 0n };
    world.ioctl('IOMMU_IOAS_IOVA_RANGES', arg);
    return arg.outIovaAlignment;
  };
  return { world, va: world.memory(4), viommuId: viommu.outViommuId, map, queue, alignment };
}

test('as long as there is a queue, mappings of the IOAS are of whole pages', () => {
  const { world, va, map, queue, alignment } = setUp();
  map(firstIova, va);
  const elsewhere = firstIova + 0x8000n;
  expect(alignment()).toBe(2048n);
  const [first, second] = [queue(firstIova, page), queue(firstIova, page, 1)] as [number, number];
  expect(alignment()).toBe(4096n);
  expect([map(elsewhere, va, half), map(elsewhere, va + 2048n), map(elsewhere + 2048n, va)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  expect([world.destroy(second), alignment(), world.destroy(first), alignment()]).toEqual([null, 4096n, null, 2048n]);
  expect(map(elsewhere, va, half)).toBeNull();
});

test.each<[string, bigint, bigint, number]>([
  ['is shorter', 0x8000n, 0n, half], ['begins within a page', 0x8800n, 0n, page], ['begins within a page of memory', 0x8000n, 2048n, page],
])('no queue comes while some mapping of the IOAS is not of whole pages: it %s', (_, iova, offset, length) => {
  const { world, va, map, queue, alignment } = setUp();
  map(firstIova, va);
  expect(map(firstIova + iova, va + offset, length)).toBeNull();
  const before = world.ledger();
  // Whether the queue itself has memory is looked at later.
  expect([queue(firstIova, page), queue(firstIova + 0x4000n, page)]).toEqual(['EADDRINUSE', 'EADDRINUSE']);
  expect([world.ledger(), alignment()]).toEqual([before, 2048n]);
});

test('a queue lies across mappings side by side, and locks each of them, and no other', () => {
  const { world, va, map, queue } = setUp();
  const iovas = [0n, 0x1000n, 0x2000n].map((offset) => firstIova + offset);
  for (const iova of iovas) map(iova, va + (iova - firstIova));
  const pinned = world.accounts().pin;
  const id = queue(firstIova + 100n, page) as number;
  const unmap = () => iovas.map((iova) => world.unmap(iova, 1));
  expect(world.destroy(id + 1)).toBe('EBUSY');
  expect(unmap()).toEqual(['EBUSY', 'EBUSY', 4096n]);
  expect(world.unmap(firstIova, 4)).toBe('EBUSY');
  expect(world.destroy(world.ioasId)).toBe('EBUSY');
  expect([world.destroy(id), ...unmap()]).toEqual([null, 4096n, 4096n, 'ENOENT']);
  expect(world.accounts().pin).toBe(pinned - 3);
});

test.each<[string, (iova: bigint, setting: ReturnType<typeof setUp>) => void, ErrnoName]>([
  ['frames do not follow each other', (iova, { va, map }) => [map(iova, va + 4096n), map(iova + 4096n, va)], 'EFAULT'],
  ['a frame is missed out', (iova, { va, map }) => [map(iova, va), map(iova + 4096n, va + 8192n)], 'EFAULT'],
  ['second mapping cannot be read', (iova, { va, map }) => [map(iova, va), map(iova + 4096n, va + 4096n, page, FIXED_WRITE_ONLY)], 'EPERM'],
  ['second half is a hole', (iova, { va, map }) => map(iova, va), 'ENOENT'],
])('a queue whose %s leaves nothing behind', (_, prepare, errno) => {
  const setting = setUp();
  const { world, va, viommuId, map, queue, alignment } = setting;
  prepare(firstIova, setting);
  const before = world.ledger();
  expect([queue(firstIova, 2 * page), queue(firstIova + 4095n, 2)]).toEqual([errno, errno]);
  expect([world.ledger(), alignment()]).toEqual([before, 2048n]);
  world.unmap(0n, 0x7ffff);
  map(firstIova, va, 2 * page);
  // Ids of calls that failed are given again; the access of the first queue has the one between.
  expect([queue(firstIova, 2 * page), queue(firstIova, page, 1)]).toEqual([viommuId + 1, viommuId + 3]);
});

test('a length is looked at before the memory: empty, beyond the last iova, past 64 bits in whole pages, too long for one list', () => {
  const { world, queue } = setUp();
  const before = world.ledger();
  expect([queue(0n, 0), queue(2n, U64), queue(U64, 2)]).toEqual(['EINVAL', 'EOVERFLOW', 'EOVERFLOW']);
  expect([queue(0n, U64), queue(1n, U64), queue(0n, U64 - 4094n)]).toEqual(['ERANGE', 'ERANGE', 'ERANGE']);
  expect([queue(0n, U64 - 4095n), queue(firstIova, 1n << 41n), queue(1n, 1n << 40n), queue(0n, 1n << 40n)]).toEqual(['ENOMEM', 'ENOMEM', 'ENOMEM', 'ENOMEM']);
  expect([queue(0n, (1n << 40n) - 4096n), queue(U64, 1)]).toEqual(['ENOENT', 'ENOENT']);
  expect(world.ledger()).toEqual(before);
});

test('an unmap of pages that another access pins does not ask the queue, which can go afterwards', () => {
  const { world, va, map, queue } = setUp();
  map(firstIova, va);
  map(firstIova + 0x1000n, va + 4096n);
  const access = { id: world.ioasId, flags: 1, outAccessFd: 0 };
  const id = queue(firstIova, page) as number;
  world.test('IOMMU_TEST_CREATE_ACCESS', access);
  const pin = { fd: access.outAccessFd, flags: 0, iova: firstIova, length: BigInt(2 * page), userVa: 0n, outAccessPagesId: 0 };
  expect(world.test('IOMMU_TEST_ACCESS_PAGES', pin)).toBe(0);
  expect([world.unmap(firstIova, 1), world.unmap(firstIova + 0x1000n, 1)]).toEqual(['EBUSY', 4096n]);
  expect([world.destroy(id), world.unmap(firstIova, 1)]).toEqual([null, 4096n]);
});
