/** dma-bufs in an IOAS: one physical range, not accounted, taken away by whoever exported it. */
import { expect, test } from 'vitest';
import { firstIova, MockWorld } from './mock-world.ts';
import { page } from './vmm.ts';

const get = (world: MockWorld, pages: number): number => world.test('IOMMU_TEST_DMABUF_GET', { length: pages * page }) as number;
const revoke = (world: MockWorld, fd: number, revoked: boolean) => world.test('IOMMU_TEST_DMABUF_REVOKE', { fd, revoked });

/** Where a domain leads, as a page of RAM, or null. */
function leadsTo(world: MockWorld, hwptId: number, iova: bigint): number | null {
  const at = world.driver.iovaToPhys(world.domain(hwptId), iova);
  return at < 0 ? null : at / page;
}

test('it is one physical range, and nobody pays for it', () => {
  const world = new MockWorld();
  const device = world.device() as { hwpt: number };
  const fd = get(world, 4);
  expect(world.mapFile(fd, 3 * page, page)).toBe(firstIova);
  const [first, second, third] = [0, 1, 2].map((index) => leadsTo(world, device.hwpt, firstIova + BigInt(index * page)));
  expect([second, third]).toEqual([first! + 1, first! + 2]);
  expect(world.accounts()).toEqual({ pin: 0, lck: 0, user: 0 });
  expect(world.unmap(firstIova, 3)).toBe(0x3000n);
  expect(leadsTo(world, device.hwpt, firstIova)).toBeNull();
});

test('type 1 v1 does not cut it, with a domain or without, wherever the cut is', () => {
  for (const withDomain of [true, false]) {
    const world = new MockWorld();
    world.ioctl('IOMMU_VFIO_IOAS', { ioasId: world.ioasId, op: 1 });
    world.ioctl('VFIO_SET_IOMMU', { arg: 1 });
    if (withDomain) world.device();
    expect(world.mapFile(get(world, 4), 4 * page)).toBe(firstIova);
    for (const length of [BigInt(page), 3n]) {
      expect(world.ioctl('VFIO_IOMMU_UNMAP_DMA', { argsz: 24, flags: 0, iova: firstIova, length })).toBe('EOPNOTSUPP');
    }
    expect(world.unmap(firstIova, 4)).toBe(0x4000n);
  }
});

test('its size is looked at before the place, and before whether it is revoked', () => {
  const world = new MockWorld();
  const fd = get(world, 2);
  expect(world.mapFile(fd, 2 * page + 1)).toBe('EINVAL');
  expect(world.mapFile(fd, 2 * page, 2 * page)).toBe('EINVAL');
  expect(world.mapFile(fd, 0)).toBe('EINVAL');
  revoke(world, fd, true);
  expect(world.mapFile(fd, 2 * page, page)).toBe('EINVAL');
  expect(world.mapFile(fd, 2 * page)).toBe('ENODEV');
  expect(world.mapFile(fd, 2 * page, 0, 6, 99)).toBe('ENOENT');
  expect([0, 513].map((pages) => world.test('IOMMU_TEST_DMABUF_GET', { length: pages * page }))).toEqual(['EINVAL', 'EINVAL']);
  expect([revoke(world, 99, true), revoke(world, world.fd, true)]).toEqual(['EBADF', 'EINVAL']);
});

test('a revocation empties every domain of every IOAS and leaves the areas; a new domain gets nothing of them', () => {
  const world = new MockWorld();
  const one = world.device() as { hwpt: number; idev: number };
  const two = world.device(world.ioasId, 1) as { hwpt: number };
  const other = world.ioas();
  const three = world.device(other) as { hwpt: number };
  const fd = get(world, 1);
  world.mapFile(fd, page);
  world.mapFile(fd, page, 0, 6, other);
  const led = () => [one, two, three].map(({ hwpt }) => leadsTo(world, hwpt, firstIova));
  expect(led()).not.toContain(null);
  expect(revoke(world, fd, true)).toBe(0);
  expect(led()).toEqual([null, null, null]);
  const fresh = world.hwpt(one.idev) as number;
  expect(leadsTo(world, fresh, firstIova)).toBeNull();
  expect(world.mapFile(fd, page, 0, 6)).toBe('ENODEV');
  expect(revoke(world, fd, false)).toBe(0);
  // What was taken away does not come back; what is imported anew is there.
  expect(led()).toEqual([null, null, null]);
  const again = world.mapFile(fd, page) as bigint;
  expect([leadsTo(world, one.hwpt, again), leadsTo(world, fresh, again)]).not.toContain(null);
  expect([world.unmap(firstIova, 1), world.unmap(again, 1), world.unmap(firstIova, 1, other)]).toEqual([0x1000n, 0x1000n, 0x1000n]);
});

test('telling the importers that it is valid takes it away from them just as well', () => {
  const world = new MockWorld();
  const { hwpt } = world.device() as { hwpt: number };
  const fd = get(world, 1);
  world.mapFile(fd, page);
  revoke(world, fd, false);
  expect(leadsTo(world, hwpt, firstIova)).toBeNull();
});

test('a copy shares its fate', () => {
  const world = new MockWorld();
  const other = world.ioas();
  const { hwpt } = world.device(other) as { hwpt: number };
  const fd = get(world, 1);
  world.mapFile(fd, page);
  const copy = world.copy(firstIova, 1, other) as bigint;
  expect(leadsTo(world, hwpt, copy)).not.toBeNull();
  world.unmap(firstIova, 1);
  revoke(world, fd, true);
  expect(leadsTo(world, hwpt, copy)).toBeNull();
  expect(world.unmap(copy, 1, other)).toBe(0x1000n);
});

test('software can neither pin it nor copy from it', () => {
  const world = new MockWorld();
  world.mapFile(get(world, 1), page);
  const access = { id: world.ioasId, flags: 1, outAccessFd: 0 };
  world.test('IOMMU_TEST_CREATE_ACCESS', access);
  const at = { fd: access.outAccessFd, flags: 0, iova: firstIova, length: 8n };
  expect(world.test('IOMMU_TEST_ACCESS_RW', { ...at, buffer: new Uint8Array(8) })).toBe('EINVAL');
  expect(world.test('IOMMU_TEST_ACCESS_PAGES', { ...at, userVa: 0n, outAccessPagesId: 0 })).toBe('EINVAL');
});

test('a detach and a close leave nothing, revoked or not', () => {
  const world = new MockWorld();
  const before = world.ledger();
  for (const revoked of [true, false]) {
    const { stdev } = world.device() as { stdev: number };
    const fd = get(world, 2);
    world.mapFile(fd, 2 * page);
    if (revoked) revoke(world, fd, true);
    expect(world.destroy(stdev)).toBeNull();
    world.close(fd);
    expect(world.unmap(firstIova, 2)).toBe(0x2000n);
    expect(world.ledger()).toEqual(before);
  }
});

