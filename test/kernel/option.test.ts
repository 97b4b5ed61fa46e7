/** IOMMU_OPTION, VFIO_IOAS and CHANGE_PROCESS. */
import type { Option } from '#src/kernel/option';
import type { ErrnoName } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { MockWorld } from './mock-world.ts';
import { page, Vmm } from './vmm.ts';

function setUp() {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  const option = (optionId: number, op: number, objectId: number, value: bigint = 9n): bigint | ErrnoName => {
    const arg: Option = { optionId, op, objectId, val64: value };
    return vmm.ioctl(fd, 'IOMMU_OPTION', arg) ?? arg.val64;
  };
  return { vmm, fd, option };
}

test('the mode of accounting changes only while the context is empty', () => {
  const { vmm, fd, option } = setUp();
  expect(option(0, 1, 0)).toBe(0n);
  expect(option(0, 0, 0, 2n)).toBe('EINVAL');
  expect(option(0, 0, 0, 1n)).toBe(1n);
  const ioas = vmm.ioas(fd);
  expect(option(0, 0, 0, 0n)).toBe('EBUSY');
  expect(option(0, 0, 0, 2n)).toBe('EBUSY');
  expect(option(0, 1, 0)).toBe(1n);
  vmm.destroy(fd, ioas);
  expect(option(0, 0, 0, 0n)).toBe(0n);
});

test('a tombstone is enough to keep the mode', () => {
  const world = new MockWorld();
  const { stdev, idev } = world.device() as { stdev: number; idev: number };
  const parent = world.hwpt(idev, 1) as number;
  const viommu = { flags: 0, type: 0xdeadbeef, devId: idev, hwptId: parent, outViommuId: 0 };
  expect(world.ioctl('IOMMU_VIOMMU_ALLOC', viommu)).toBeNull();
  expect(world.ioctl('IOMMU_VDEVICE_ALLOC', { viommuId: viommu.outViommuId, devId: idev, virtId: 5n, outVdeviceId: 0 })).toBeNull();
  for (const id of [stdev, viommu.outViommuId, parent, world.ioasId]) expect(world.destroy(id)).toBeNull();
  expect(world.ioctl('IOMMU_OPTION', { optionId: 0, op: 0, objectId: 0, val64: 1n })).toBe('EBUSY');
});

test('a value that cannot be written back is set all the same', () => {
  const { vmm, fd, option } = setUp();
  expect(vmm.ioctl(fd, 'IOMMU_OPTION', { optionId: 0, op: 0, objectId: 0, val64: 1n, argument: 'read-only' })).toBe('EFAULT');
  expect(option(0, 1, 0)).toBe(1n);
});

test.each([[0, 0, 5, 'EOPNOTSUPP'], [0, 2, 0, 'EOPNOTSUPP'], [7, 0, 0, 'EOPNOTSUPP'], [1, 1, 9, 'ENOENT'], [1, 2, 1, 'EOPNOTSUPP']])(
  'option %i, operation %i of object %i is %s', (id, op, object, errno) => {
    const { vmm, fd, option } = setUp();
    vmm.ioas(fd);
    expect(option(id, op, object)).toBe(errno);
  },
);

test('without large pages everything is whole pages; what is mapped decides whether they can go', () => {
  const { vmm, fd, option } = setUp();
  const ioas = vmm.ioas(fd);
  const va = vmm.process.memory(page);
  expect(option(1, 1, ioas)).toBe(1n);
  expect(option(1, 0, ioas, 2n)).toBe('EINVAL');
  vmm.map(fd, ioas, 0x1000, va, 64);
  expect(option(1, 0, ioas, 0n)).toBe('EADDRINUSE');
  vmm.unmap(fd, ioas, 0x1000, 64);
  expect(option(1, 0, ioas, 0n)).toBe(0n);
  expect(vmm.ranges(fd, ioas).alignment).toBe(4096n);
  expect(vmm.map(fd, ioas, 0x1000, va, 64)).toBe('EINVAL');
  expect(option(1, 0, ioas, 1n)).toBe(1n);
  expect(vmm.ranges(fd, ioas).alignment).toBe(1n);
});

test('large pages stay while a domain holds a mapping', () => {
  const { vmm, fd, option } = setUp();
  const group = vmm.world.group('A');
  const ioas = vmm.ioas(fd);
  vmm.map(fd, ioas, 0x1000, vmm.process.memory(page));
  vmm.attach(vmm.process.bind(group.vfio[0]!, fd), ioas);
  expect(option(1, 0, ioas, 0n)).toBe('EINVAL');
  expect(option(1, 1, ioas)).toBe(1n);
});

test('the compatibility IOAS is named, told and forgotten, also by its destruction', () => {
  const { vmm, fd } = setUp();
  const call = (op: number, ioasId: number, reserved = 0): number | ErrnoName => {
    const arg = { ioasId, op, reserved };
    return vmm.ioctl(fd, 'IOMMU_VFIO_IOAS', arg) ?? arg.ioasId;
  };
  const ioas = vmm.ioas(fd);
  expect(call(0, 0)).toBe('ENODEV');
  expect(call(1, 9)).toBe('ENOENT');
  expect(call(3, ioas)).toBe('EOPNOTSUPP');
  expect(call(0, ioas, 1)).toBe('EOPNOTSUPP');
  expect(call(1, ioas)).toBe(ioas);
  expect(call(0, 0)).toBe(ioas);
  expect(call(2, 0)).toBe(0);
  expect(call(0, 0)).toBe('ENODEV');
  call(1, ioas);
  expect(vmm.destroy(fd, ioas)).toBeNull();
  expect(call(0, 0)).toBe('ENODEV');
});

test('memory of a process does not change hands; a context without mappings does', () => {
  const { vmm, fd } = setUp();
  const ioas = vmm.ioas(fd);
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_CHANGE_PROCESS', { reserved: 1 })).toBe('EOPNOTSUPP');
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_CHANGE_PROCESS', {})).toBeNull();
  vmm.map(fd, ioas, 0x1000, vmm.process.memory(page));
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_CHANGE_PROCESS', {})).toBe('EINVAL');
});
