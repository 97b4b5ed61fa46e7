/** mmap(2) of an iommufd: registers that a driver shows. */
import { fork, exit } from '#src/kernel/fork';
import { mmapIommufd, type MmapIommufd } from '#src/kernel/iommufd-mmap';
import { munmap } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { MockWorld } from './mock-world.ts';
import { errnoOf, page } from './vmm.ts';

const viommuType = 0xdeadbeef;

/** A device 3 and a nest parent 5, and how to make vIOMMUs that show two pages. */
function setUp() {
  const world = new MockWorld();
  const { idev } = world.device() as { idev: number };
  const parent = world.hwpt(idev, 1) as number;
  const viommu = (word: number) => {
    const data = new Uint8Array(24);
    new DataView(data.buffer).setUint32(0, word, true);
    const arg = { flags: 0, type: viommuType, devId: idev, hwptId: parent, outViommuId: 0, dataLength: 24, data };
    expect(world.ioctl('IOMMU_VIOMMU_ALLOC', arg)).toBeNull();
    const view = new DataView(data.buffer);
    return { id: arg.outViommuId, offset: view.getBigUint64(8, true), bytes: Number(view.getBigUint64(16, true)) };
  };
  return { world, viommu };
}

const asked: MmapIommufd = { offset: 0n, lengthBytes: 2 * page, shared: true, writable: true, executable: false, at: null };

test('each vIOMMU has a place in the file of its own, the lowest that is free, never the first page', () => {
  const { world, viommu } = setUp();
  const [one, two] = [viommu(1), viommu(2)];
  expect([one, two].map(({ offset, bytes }) => [offset, bytes])).toEqual([[0x1000n, 0x2000], [0x3000n, 0x2000]]);
  expect([one.offset, two.offset].map((offset) => world.load(mmapIommufd(world.kernel, world.fd, { ...asked, offset })))).toEqual([[1], [2]]);
  munmapAll(world);
  expect(world.destroy(one.id)).toBeNull();
  expect(viommu(3).offset).toBe(0x1000n);
});

const munmapAll = (world: MockWorld): void => munmap(world.kernel, world.process, 0n, 1n << 47n);

test.each<[string, string, Partial<MmapIommufd>]>([
  ['an offset within a page', 'EINVAL', { offset: 0x1800n }],
  ['a private mapping', 'EINVAL', { shared: false }],
  ['no length', 'EINVAL', { lengthBytes: 0 }],
  ['an executable mapping', 'EPERM', { executable: true }],
  ['a private and executable mapping', 'EINVAL', { shared: false, executable: true }],
  ['an executable mapping of nothing', 'EPERM', { executable: true, offset: 0x9000n }],
  ['the second page alone', 'ENXIO', { offset: 0x2000n }],
  ['the first page of the file', 'ENXIO', { offset: 0n }],
  ['too little', 'ENXIO', { lengthBytes: page }],
  ['too much', 'ENXIO', { lengthBytes: 3 * page }],
])('%s is %s', (_, errno, change) => {
  const { world, viommu } = setUp();
  viommu(1);
  const before = world.ledger();
  expect(errnoOf(() => mmapIommufd(world.kernel, world.fd, { ...asked, offset: 0x1000n, ...change }))).toBe(errno);
  expect(world.ledger()).toEqual(before);
});

test('while a page of it is mapped, by anybody, the owner is in use', () => {
  const { world, viommu } = setUp();
  const { id, offset } = viommu(7);
  const va = mmapIommufd(world.kernel, world.fd, { ...asked, offset });
  const child = fork(world.kernel, 2);
  munmap(world.kernel, world.process, va, 4096n);
  expect(world.destroy(id)).toBe('EBUSY');
  munmap(world.kernel, world.process, va + 4096n, 4096n);
  expect(world.destroy(id)).toBe('EBUSY');
  world.kernel.enter(child);
  exit(world.kernel);
  world.kernel.enter(world.process);
  expect(world.destroy(id)).toBeNull();
});

test('a mapping keeps the context alive when its descriptor is closed; then the last munmap releases all', () => {
  const { world, viommu } = setUp();
  const { offset } = viommu(7);
  const va = mmapIommufd(world.kernel, world.fd, { ...asked, offset });
  world.close(world.fd);
  expect(world.load(va)).toEqual([7]);
  const before = world.host.frames.inUse;
  munmap(world.kernel, world.process, va, 8192n);
  // Two domains' root tables and the two pages.
  expect(world.host.frames.inUse).toBe(before - 4);
});

test('other files have no registers, and a closed one neither', () => {
  const { world } = setUp();
  expect(errnoOf(() => mmapIommufd(world.kernel, world.memfd(1), asked))).toBe('ENODEV');
  expect(errnoOf(() => mmapIommufd(world.kernel, 77, asked))).toBe('EBADF');
});
