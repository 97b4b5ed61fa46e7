/** The commands of a VFIO container on /dev/iommu. */
import { ioctl } from '#src/kernel/syscalls';
import type { ErrnoName } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { page, Vmm } from './vmm.ts';

/** A compatibility IOAS with a device's domain, and the container's commands. */
function setUp(type: number) {
  const vmm = new Vmm();
  const group = vmm.world.group('A');
  const fd = vmm.iommufd();
  const ioasId = vmm.ioas(fd);
  vmm.ioctl(fd, 'IOMMU_VFIO_IOAS', { ioasId, op: 1 });
  vmm.attach(vmm.process.bind(group.vfio[0]!, fd), ioasId);
  expect(vmm.ioctl(fd, 'VFIO_SET_IOMMU', { arg: type })).toBeNull();
  const map = (iova: number, pages: number, change: object = {}): ErrnoName | null => vmm.ioctl(fd, 'VFIO_IOMMU_MAP_DMA', {
    argsz: 32, flags: 3, vaddr: vmm.process.memory(pages * page, 5), iova: BigInt(iova), length: BigInt(pages * page), ...change,
  });
  const unmap = (iova: number, size: number, flags = 0): bigint | ErrnoName => {
    const arg = { argsz: 24, flags, iova: BigInt(iova), length: BigInt(size) };
    return vmm.ioctl(fd, 'VFIO_IOMMU_UNMAP_DMA', arg) ?? arg.length;
  };
  return { vmm, fd, map, unmap };
}

test('v1 unmaps a part of a mapping: the rest stays mapped and pinned', () => {
  const { vmm, map, unmap } = setUp(1);
  const before = vmm.ledger();
  expect(map(0x10000, 4)).toBeNull();
  expect(unmap(0x11000, page)).toBe(4096n);
  expect(vmm.ledger().pinned).toBe(3);
  expect([0x10000, 0x12000, 0x13000].map((iova) => vmm.sees('A', iova))).toEqual([5, 5, 5]);
  expect(vmm.sees('A', 0x11000)).toContain('fault');
  expect(map(0x11000, 1)).toBeNull();
  expect(unmap(0x10000, 0x8000)).toBe(0x4000n);
  expect(vmm.ledger().pinned).toBe(before.pinned);
});

test('v1 cuts only where pages end, and unmapping nothing succeeds with 0', () => {
  const { map, unmap } = setUp(1);
  expect(map(0x10000, 2)).toBeNull();
  expect(unmap(0x10800, 0x800)).toBe('EINVAL');
  expect(unmap(0x20000, page)).toBe(0n);
  expect(unmap(0x10000, 0)).toBe('EINVAL');
});

test('v1 leaves a mapping whole whose first byte alone is asked for, and finds nothing then', () => {
  const { map, unmap, vmm } = setUp(1);
  expect(map(0x10000, 4)).toBeNull();
  expect(unmap(0x10000, 1)).toBe('ENOENT');
  expect(unmap(0x10001, 0x3fff)).toBe('ENOENT');
  expect(unmap(0x10000, 2)).toBe('EINVAL');
  expect(vmm.sees('A', 0x10000)).toBe(5);
});

test('ranges that there is room for are written, though their number is not', () => {
  const { vmm, fd } = setUp(3);
  const info = (argsz: number) => {
    const bytes = new Uint8Array(argsz).fill(0xee);
    const arg = { argsz, flags: 0, iovaPageSizes: 0n, capOffset: 77, bytes };
    expect(vmm.ioctl(fd, 'VFIO_IOMMU_GET_INFO', arg)).toBeNull();
    return { view: new DataView(bytes.buffer), ...arg };
  };
  const full = info(4096);
  const ranges = full.argsz - 24 - 16 - 16;
  expect(ranges).toBe(32);
  const some = info(full.argsz - 1);
  expect([some.capOffset, some.view.getUint32(16, true), some.view.getUint32(40, true)]).toEqual([0, 0, 0xeeeeeeee]);
  expect([some.view.getBigUint64(56, true), some.view.getBigUint64(64, true)]).toEqual([full.view.getBigUint64(56, true), full.view.getBigUint64(64, true)]);
  expect(some.view.getUint8(72)).toBe(0xee);
  expect([info(16).capOffset, info(20).capOffset]).toEqual([77, 0]);
});

test('v2 does not split', () => {
  const { map, unmap } = setUp(3);
  expect(map(0x10000, 2)).toBeNull();
  expect(unmap(0x10000, page)).toBe('ENOENT');
  expect(unmap(0x20000, page)).toBe(0n);
  expect(unmap(0x10000, 2 * page)).toBe(0x2000n);
});

test('UNMAP_ALL takes no range and removes everything', () => {
  const { map, unmap } = setUp(3);
  expect(map(0x10000, 2)).toBeNull();
  expect(unmap(0x1000, 0, 2)).toBe('EINVAL');
  expect(unmap(0, page, 2)).toBe('EINVAL');
  expect(unmap(0, 0, 2)).toBe(0x2000n);
  expect(unmap(0, 0, 2)).toBe(0n);
  expect(unmap(0x10000, page, 1)).toBe('EINVAL');
});

test.each<[object, ErrnoName]>([[{ argsz: 31 }, 'EINVAL'], [{ flags: 4 }, 'EINVAL'], [{ length: 0n }, 'EINVAL'], [{ iova: 0x10001n }, 'EINVAL'], [{ argument: 'absent' }, 'EFAULT']])(
  'MAP_DMA with %o is %s', (change, errno) => {
    expect(setUp(1).map(0x10000, 1, change)).toBe(errno);
  },
);

test('without a compatibility IOAS there is no container, but extensions are told', () => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  expect(vmm.ioctl(fd, 'VFIO_SET_IOMMU', { arg: 1 })).toBe('ENODEV');
  expect(vmm.ioctl(fd, 'VFIO_SET_IOMMU', { arg: 99 })).toBe('EINVAL');
  expect(vmm.ioctl(fd, 'VFIO_IOMMU_GET_INFO', { argsz: 24, flags: 0, iovaPageSizes: 0n, capOffset: 0 })).toBe('ENODEV');
  expect([0, 1, 2, 3, 8, 9].map((arg) => ioctl(vmm.world.kernel, fd, 'VFIO_CHECK_EXTENSION', { arg }))).toEqual([0, 1, 0, 1, 0, 1]);
  expect(vmm.ioctl(fd, 'VFIO_CHECK_EXTENSION', { arg: 4 })).toBe('ENODEV');
});

test('GET_INFO tells how long all of it is and gives the capabilities that fit', () => {
  const { vmm, fd } = setUp(1);
  const info = (argsz: number) => {
    const arg = { argsz, flags: 0, iovaPageSizes: 0n, capOffset: 0, bytes: new Uint8Array(argsz).fill(0xaa) };
    expect(vmm.ioctl(fd, 'VFIO_IOMMU_GET_INFO', arg)).toBeNull();
    return arg;
  };
  const short = info(41);
  expect(short).toMatchObject({ argsz: 88, flags: 3, capOffset: 0 });
  expect([...short.bytes.subarray(24)]).toEqual([3, 0, 1, 0, 40, 0, 0, 0, 255, 255, 255, 255, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa]);
  const whole = info(88);
  expect(whole.capOffset).toBe(24);
  const view = new DataView(whole.bytes.buffer);
  expect([view.getUint16(40, true), view.getUint32(44, true), view.getUint32(48, true)]).toEqual([1, 0, 2]);
  expect(whole.iovaPageSizes & 0x1000n).toBe(0x1000n);
});
