/** Files in memory, and IOAS_MAP_FILE of them. */
import { createMemfd, mmapMemfd, truncateMemfd } from '#src/kernel/memfd';
import { munmap } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { firstIova, MockWorld } from './mock-world.ts';
import { errnoOf, fixed, page, U64 } from './vmm.ts';

const sees = (world: MockWorld, hwpt: number, iova: bigint, va: bigint, pages: number = 1) =>
  world.test('IOMMU_TEST_MD_CHECK_MAP', { id: hwpt, iova, length: BigInt(pages * page), userVa: va });

test('a device reaches a file\'s pages that nobody has mapped, and those who map them see the same', () => {
  const world = new MockWorld();
  world.device();
  const file = world.memfd(4);
  const iova = world.mapFile(file, 2 * page, page) as bigint;
  expect(world.accounts()).toEqual({ pin: 2, lck: 0, user: 0 });
  const va = mmapMemfd(world.kernel, file, 0, 4 * page, true, null);
  expect([sees(world, 4, iova, va + 4096n, 2), sees(world, 4, iova, va)]).toEqual([0, 'EINVAL']);
  world.store(va + 4096n, 7);
  expect(world.load(mmapMemfd(world.kernel, file, 1, page, false, null))).toEqual([7]);
});

test('what is wrong is said in the order of the kernel', () => {
  const world = new MockWorld();
  world.device();
  const file = world.memfd(2);
  const closed = world.memfd(1);
  world.close(closed);
  const map = (change: object) => world.ioctl('IOMMU_IOAS_MAP_FILE', { flags: fixed, ioasId: 9, fd: closed, start: 1n, length: 0n, iova: 3n, ...change });
  expect(map({ flags: 15, iova: U64 })).toBe('EOPNOTSUPP');
  expect(map({ flags: 1, iova: U64 })).toBe('EOVERFLOW');
  expect(map({ flags: 1, length: U64 })).toBe('EOVERFLOW');
  expect(map({ flags: 1 })).toBe('EINVAL');
  expect(map({})).toBe('ENOENT');
  const there = { ioasId: world.ioasId };
  expect(map(there)).toBe('EINVAL');
  expect(map({ ...there, start: U64, length: 2n })).toBe('EOVERFLOW');
  expect(map({ ...there, length: 100n })).toBe('EBADF');
  expect(map({ ...there, fd: file, length: U64 - 2n })).toBe('EINVAL');
  expect(map({ ...there, fd: file, length: 4096n })).toBe('EINVAL');
  expect(map({ ...there, fd: file, length: 4096n, iova: firstIova, start: 0n })).toBeNull();
  expect(map({ ...there, fd: file, length: 4096n, iova: firstIova, start: 0n })).toBe('EEXIST');
  expect(map({ ...there, fd: file, length: 4096n, iova: firstIova + 0x2000n, start: 2048n })).toBeNull();
});

test('a file that ends within the mapping, or is not in memory, is found out when its pages are wanted', () => {
  const world = new MockWorld();
  const short = createMemfd(world.kernel, false);
  truncateMemfd(world.kernel, short, page + 100);
  expect(world.mapFile(short, page)).toBeTypeOf('bigint');
  expect(world.device()).toBeTypeOf('object');
  const before = world.ledger();
  // Its last page is no whole page.
  expect(world.mapFile(short, page, page)).toBe('EINVAL');
  expect(world.mapFile(world.fd, page)).toBe('EINVAL');
  expect(world.ledger()).toEqual(before);
  const late = world.ioas();
  expect(world.mapFile(world.fd, page, 0, 6, late)).toBeTypeOf('bigint');
  expect(world.device(late)).toBe('EINVAL');
});

test('a mapping keeps the file open, and its pages what they are', () => {
  const world = new MockWorld();
  world.device();
  // Page tables stay.
  world.unmap(world.map(world.memory()) as bigint, 1);
  const before = world.ledger();
  const file = world.memfd(2);
  const va = mmapMemfd(world.kernel, file, 0, 2 * page, true, null);
  const iova = world.mapFile(file, 2 * page) as bigint;
  world.close(file);
  expect(sees(world, 4, iova, va, 2)).toBe(0);
  munmap(world.kernel, world.process, va, 8192n);
  expect(world.unmap(iova, 2)).toBe(0x2000n);
  expect(world.ledger()).toEqual(before);
});

test('a file grows and shrinks; what it loses stays with those who have it pinned', () => {
  const world = new MockWorld();
  world.device();
  const file = world.memfd(2);
  const va = mmapMemfd(world.kernel, file, 0, 2 * page, true, null);
  const iova = world.mapFile(file, 2 * page) as bigint;
  truncateMemfd(world.kernel, file, page);
  expect(sees(world, 4, iova, va, 2)).toBe(0);
  expect(world.mapFile(file, 2 * page)).toBe('EINVAL');
  truncateMemfd(world.kernel, file, 3 * page);
  const again = mmapMemfd(world.kernel, file, 0, 3 * page, true, null);
  expect([sees(world, 4, iova, again), sees(world, 4, iova, again, 2)]).toEqual([0, 'EINVAL']);
  expect(errnoOf(() => mmapMemfd(world.kernel, file, 1, 3 * page, true, null))).toBe('EINVAL');
});

test('of huge pages a file has whole ones', () => {
  const world = new MockWorld();
  const file = createMemfd(world.kernel, true);
  expect(errnoOf(() => truncateMemfd(world.kernel, file, page))).toBe('EINVAL');
  expect(errnoOf(() => truncateMemfd(world.kernel, world.fd, page))).toBe('EINVAL');
  expect(errnoOf(() => truncateMemfd(world.kernel, 99, page))).toBe('EBADF');
});
