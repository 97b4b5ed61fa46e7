/** Accesses: how software reaches the pages of an IOAS, and what an unmap does about it. */
import { exit, fork } from '#src/kernel/fork';
import { munmap } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { firstIova, MockWorld } from './mock-world.ts';
import { page } from './vmm.ts';

const WRITE = 1;
const SLOW = 4;

/** Four pages at `firstIova`, the first byte of each its number from 1, and an access that pins or not. */
function setUp(pins: boolean) {
  const world = new MockWorld();
  const va = world.memory(4);
  for (let index = 0; index < 4; index++) world.store(va + BigInt(index * page), index + 1);
  world.map(va, 4);
  const arg = { id: world.ioasId, flags: pins ? 1 : 0, outAccessFd: 0 };
  expect(world.test('IOMMU_TEST_CREATE_ACCESS', arg)).toBe(0);
  const fd = arg.outAccessFd;
  const rw = (iova: bigint, buffer: number[], flags: number = 0) => {
    const bytes = Uint8Array.from(buffer);
    const result = world.test('IOMMU_TEST_ACCESS_RW', { fd, flags, iova, length: BigInt(bytes.length), buffer: bytes });
    return result === 0 ? [...bytes] : result;
  };
  const pin = (iova: bigint, length: bigint | number, flags: number = 0, userVa: bigint = 0n) => {
    const pages = { fd, flags, iova, length: BigInt(length), userVa, outAccessPagesId: 0 };
    const result = world.test('IOMMU_TEST_ACCESS_PAGES', pages);
    return result === 0 ? pages.outAccessPagesId : result;
  };
  const pinsOf = (refs: number) => world.test('IOMMU_TEST_MD_CHECK_REFS', { length: BigInt(page), userVa: va, refs });
  return { world, va, fd, rw, pin, pinsOf };
}

test('what is written through an access is in memory, and what is read comes from it; nothing stays pinned', () => {
  const { world, va, rw } = setUp(false);
  expect(rw(firstIova + 4095n, [0, 0])).toEqual([0, 2]);
  expect(rw(firstIova + 4095n, [8, 9], WRITE)).toEqual([8, 9]);
  expect(world.load(va + 4095n)).toEqual([8]);
  expect(rw(firstIova + 4095n, [0, 0], SLOW)).toEqual([8, 9]);
  expect(world.accounts().pin).toBe(0);
});

test('the owner of memory reads it as it is mapped now; a stranger, and a device, what was pinned', () => {
  const { world, va, rw } = setUp(false);
  world.device();
  munmap(world.kernel, world.process, va, 8192n);
  expect([rw(firstIova, [0]), rw(firstIova + 4095n, [0, 0])]).toEqual(['EFAULT', 'EFAULT']);
  // As a stranger asks for one page by the mapping too, but for several by their pins.
  expect([rw(firstIova, [0], SLOW), rw(firstIova + 4095n, [0, 0], SLOW)]).toEqual(['EFAULT', [0, 2]]);
  world.kernel.enter(fork(world.kernel, 2));
  expect(rw(firstIova + 4095n, [0, 0])).toEqual([0, 2]);
});

test('what is wrong with a range or its permissions ends the copy there', () => {
  const { world, va, rw } = setUp(false);
  const readOnly = { flags: 5, ioasId: world.ioasId, userVa: va, length: 4096n, iova: firstIova + 0x4000n };
  expect(world.ioctl('IOMMU_IOAS_MAP', readOnly)).toBeNull();
  const writeOnly = { flags: 3, ioasId: world.ioasId, userVa: va, length: 4096n, iova: firstIova + 0x5000n };
  expect(world.ioctl('IOMMU_IOAS_MAP', writeOnly)).toBeNull();
  expect(rw(firstIova, [])).toBe('EINVAL');
  expect(rw(2n ** 64n - 1n, [0, 0])).toBe('EOVERFLOW');
  expect(rw(firstIova + 0x3fffn, [5, 6], WRITE)).toBe('EPERM');
  expect(world.load(va + 0x3fffn)).toEqual([5]);
  expect(rw(firstIova + 0x5000n, [0])).toBe('EPERM');
  expect(rw(firstIova + 0x5fffn, [1, 2], WRITE)).toBe('ENOENT');
});

test('a pin keeps a page until it is undone, once for each; the ids count from 0 and are not given again', () => {
  const { world, va, fd, pin, pinsOf } = setUp(true);
  expect([pin(firstIova, page), pin(firstIova, page, WRITE, va), pin(firstIova, 5000)]).toEqual([0, 1, 2]);
  // Software pins a page once for all of its own.
  expect([pinsOf(1), world.accounts().pin]).toEqual([0, 2]);
  const undo = (accessPagesId: number) => world.test('IOMMU_TEST_DESTROY_ACCESS_PAGES', { fd, accessPagesId });
  expect([undo(0), undo(0), undo(2), undo(1), pinsOf(0)]).toEqual([0, 'ENOENT', 0, 0, 0]);
  expect(pin(firstIova, page)).toBe(3);
});

test('a pin is of whole areas side by side, aligned to pages, with the right to it, and of the caller\'s own pages', () => {
  const { world, va, pin } = setUp(true);
  expect([pin(firstIova + 100n, 100), pin(firstIova, 0), pin(2n ** 64n - 1n, 2), pin(firstIova, 5 * page), pin(firstIova - 4096n, page)]).toEqual(['EINVAL', 'EINVAL', 'EOVERFLOW', 'ENOENT', 'ENOENT']);
  expect([pin(firstIova, page, 0, va + 4096n), pin(firstIova, page, 0, 0x1000n), pin(firstIova, page, 2)]).toEqual(['EBADE', 'EFAULT', 'EOPNOTSUPP']);
  expect(pin(firstIova, 17n << 20n)).toBe('ENOMEM');
  expect(world.accounts().pin).toBe(0);
});

test('an unmap of pinned pages calls the owner back, who lets go; then they are gone', () => {
  const { world, fd, pin, pinsOf } = setUp(true);
  pin(firstIova, 2 * page);
  pin(firstIova + 0x2000n, page);
  expect(world.unmap(firstIova, 4)).toBe(0x4000n);
  expect([world.test('IOMMU_TEST_DESTROY_ACCESS_PAGES', { fd, accessPagesId: 0 }), pinsOf(0), world.accounts().pin]).toEqual(['ENOENT', 0, 0]);
});

test('a move to another IOAS takes the pins away; an access that is attached nowhere finds nothing', () => {
  const { world, fd, pin, pinsOf } = setUp(true);
  pin(firstIova, page);
  const other = world.ioas();
  expect(world.test('IOMMU_TEST_ACCESS_REPLACE_IOAS', { fd, ioasId: 99 })).toBe('ENOENT');
  expect(pinsOf(1)).toBe(0);
  expect(world.test('IOMMU_TEST_ACCESS_REPLACE_IOAS', { fd, ioasId: other })).toBe(0);
  expect([pinsOf(0), pin(firstIova, page)]).toEqual([0, 'ENOENT']);
  expect([world.destroy(other), world.destroy(world.ioasId)]).toEqual(['EBUSY', null]);
});

test('an access that pins needs whole pages of the IOAS, and one that does not, nothing', () => {
  const { world } = setUp(false);
  const arg = { ioasId: world.ioasId, numIovas: 9, ranges: [], outIovaAlignment: 0n };
  world.ioctl('IOMMU_IOAS_IOVA_RANGES', arg);
  expect(arg.outIovaAlignment).toBe(1n);
  const odd = { flags: 7, ioasId: world.ioasId, userVa: 0x1001n, length: 100n, iova: firstIova + 0x8001n };
  expect(world.ioctl('IOMMU_IOAS_MAP', odd)).toBeNull();
  expect(world.test('IOMMU_TEST_CREATE_ACCESS', { id: world.ioasId, flags: 1, outAccessFd: 0 })).toBe('EADDRINUSE');
  world.ioctl('IOMMU_IOAS_UNMAP', { ioasId: world.ioasId, iova: odd.iova, length: 100n });
  expect(world.test('IOMMU_TEST_CREATE_ACCESS', { id: world.ioasId, flags: 1, outAccessFd: 0 })).toBe(0);
  expect(world.ioctl('IOMMU_IOAS_MAP', odd)).toBe('EINVAL');
});

test('a close of the access, or the end of its process, undoes its pins', () => {
  const { world, fd, pin } = setUp(true);
  pin(firstIova, 3 * page);
  expect(world.accounts().pin).toBe(3);
  world.close(fd);
  expect(world.accounts().pin).toBe(0);
  const again = setUp(true);
  again.pin(firstIova, page);
  exit(again.world.kernel);
  expect(again.world.accounts().pin).toBe(0);
});
