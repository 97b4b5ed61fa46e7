/** Legacy group files against character devices (GROUP_STEPS 65, 66), and what a device tells of itself. */
import { bridge, endpoint } from '#src/kernel/pci';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

function setUp() {
  const vmm = new Vmm();
  const [group] = vmm.world.pci({ 4: bridge('PCIe-to-PCI bridge', { 1: endpoint('A'), 2: endpoint('B') }), 5: endpoint('L') });
  const fd = vmm.iommufd();
  const file = `/dev/vfio/${group!.number}`;
  const setContainer = (groupFd: number, container: number) => vmm.ioctl(groupFd, 'VFIO_GROUP_SET_CONTAINER', { fd: container });
  const getDevice = (groupFd: number, name: string) => {
    const arg = { name, outFd: -1 };
    return vmm.ioctl(groupFd, 'VFIO_GROUP_GET_DEVICE_FD', arg) ?? arg.outFd;
  };
  return { vmm, fd, file, group: group!, setContainer, getDevice };
}

const name = '0000:01:01.0';

test('65: while a device is bound through its character device the group file is busy, and free again when it is closed', () => {
  const { vmm, fd, file, group } = setUp();
  const device = vmm.openVfio(group.vfio[0]!);
  vmm.close(vmm.open(file));
  vmm.bindTo(device, fd);
  expect(errnoOf(() => vmm.open(file))).toBe('EBUSY');
  vmm.close(device);
  vmm.close(vmm.open(file));
});

test('66: while the group file is open no device of the group can be bound through its character device; those of others can', () => {
  const { vmm, fd, file, group } = setUp();
  const legacy = vmm.open(file);
  expect(errnoOf(() => vmm.open(file))).toBe('EBUSY');
  const [a, b] = group.vfio.map((number) => vmm.openVfio(number)) as [number, number];
  expect([vmm.bindTo(a, fd), vmm.bindTo(b, fd), vmm.bindTo(b, 99)]).toEqual(['EBUSY', 'EBUSY', 'EBUSY']);
  expect(vmm.bindTo(vmm.openVfio(0), fd)).toBe(1);
  vmm.close(legacy);
  expect(vmm.bindTo(b, fd)).toBe(2);
});

test('a device of a group file is bound and attached to the compatibility IOAS, and keeps the group open', () => {
  const { vmm, fd, file, group, setContainer, getDevice } = setUp();
  const legacy = vmm.open(file);
  expect(getDevice(legacy, name)).toBe('EINVAL');
  expect([setContainer(legacy, 99), setContainer(legacy, legacy), setContainer(legacy, fd), setContainer(legacy, fd)]).toEqual(['EBADF', 'EBADFD', null, 'EINVAL']);
  expect([getDevice(legacy, '0000:01:03.0'), getDevice(legacy, '0000:00:05.0')]).toEqual(['ENODEV', 'ENODEV']);
  const device = getDevice(legacy, name) as number;
  expect(device).toBeGreaterThan(legacy);
  // Ids: the IOAS, the DEVICE, its HWPT.
  vmm.map(fd, 1, 0x1000, vmm.process.memory(page, 7));
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual([7, 7]);
  expect([vmm.destroy(fd, 1), vmm.destroy(fd, 2), vmm.destroy(fd, 3)]).toEqual(['EBUSY', 'EBUSY', 'EBUSY']);
  expect([vmm.attach(device, 1), vmm.detach(device), vmm.bindTo(device, fd)]).toEqual(['ENOTTY', 'ENOTTY', 'EINVAL']);
  const second = getDevice(legacy, name) as number;
  vmm.close(device);
  vmm.close(legacy);
  expect(vmm.sees('A', 0x1000)).toBe(7);
  expect(vmm.bindTo(vmm.openVfio(group.vfio[1]!), fd)).toBe('EBUSY');
  vmm.close(second);
  expect(vmm.bindTo(vmm.openVfio(group.vfio[1]!), fd)).toBe(2);
  expect(vmm.destroy(fd, 1)).toBe(null);
});

test('SET_CONTAINER reads the number, looks for its file, then whether there is a container, then what the file is', () => {
  const { vmm, fd, file, setContainer } = setUp();
  const legacy = vmm.open(file);
  const absent = { fd: 99, argument: 'absent' } as const;
  expect([vmm.ioctl(legacy, 'VFIO_GROUP_SET_CONTAINER', absent), setContainer(legacy, 99), setContainer(legacy, legacy)]).toEqual(['EFAULT', 'EBADF', 'EBADFD']);
  expect(setContainer(legacy, fd)).toBe(null);
  const before = vmm.ledger();
  expect([vmm.ioctl(legacy, 'VFIO_GROUP_SET_CONTAINER', absent), setContainer(legacy, 99), setContainer(legacy, legacy)]).toEqual(['EFAULT', 'EBADF', 'EINVAL']);
  expect(setContainer(legacy, fd)).toBe('EINVAL');
  expect(vmm.ioctl(legacy, 'VFIO_GROUP_GET_DEVICE_FD', { name, outFd: -1, argument: 'absent' })).toBe('EFAULT');
  expect(vmm.ledger()).toEqual(before);
});

test('BIND on a device of a group file checks its struct first', () => {
  const { vmm, fd, file, setContainer, getDevice } = setUp();
  const legacy = vmm.open(file);
  setContainer(legacy, fd);
  const device = getDevice(legacy, name) as number;
  const bind = (change: object) => vmm.ioctl(device, 'VFIO_DEVICE_BIND_IOMMUFD', { argsz: 24, flags: 0, iommufd: fd, outDevid: 0, ...change });
  expect([bind({ argument: 'absent' }), bind({ argsz: 25, nonzeroTail: true }), bind({})]).toEqual(['EFAULT', 'E2BIG', 'EINVAL']);
});

test('whatever was opened through a group, nothing is left when all is closed', () => {
  const { vmm, fd, file, setContainer, getDevice } = setUp();
  const before = vmm.ledger();
  const legacy = vmm.open(file);
  const own = vmm.iommufd();
  setContainer(legacy, own);
  const device = getDevice(legacy, name) as number;
  for (const one of [own, legacy, device]) vmm.close(one);
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.destroy(fd, 1)).toBe('ENOENT');
});

test('there is no group file but those of groups, and each kind of file has commands of its own', () => {
  const { vmm, fd, file } = setUp();
  expect([errnoOf(() => vmm.open('/dev/vfio/9')), errnoOf(() => vmm.open('/dev/vfio/vfio'))]).toEqual(['ENOENT', 'ENOENT']);
  const legacy = vmm.open(file);
  expect([vmm.destroy(legacy, 1), vmm.ioctl(fd, 'VFIO_GROUP_SET_CONTAINER', { fd })]).toEqual(['ENOTTY', 'ENOTTY']);
});

test('64: an edu device tells nine regions and no method of reset', () => {
  const { vmm, fd, group } = setUp();
  const device = vmm.openVfio(group.vfio[0]!);
  const info = { argsz: 16, flags: 0, numRegions: 0, numIrqs: 0 };
  expect(vmm.ioctl(device, 'VFIO_DEVICE_GET_INFO', info)).toBe('EINVAL');
  vmm.bindTo(device, fd);
  expect(vmm.ioctl(device, 'VFIO_DEVICE_GET_INFO', { ...info, argsz: 15 })).toBe('EINVAL');
  expect(vmm.ioctl(device, 'VFIO_DEVICE_GET_INFO', info)).toBe(null);
  expect(info).toMatchObject({ flags: 2, numRegions: 9, numIrqs: 5 });
  const region = (index: number, argsz: number = 32) => {
    const arg = { argsz, flags: 0, index, size: 0n, offset: 0n };
    return vmm.ioctl(device, 'VFIO_DEVICE_GET_REGION_INFO', arg) ?? [arg.flags, arg.size, arg.offset];
  };
  expect([region(0), region(1), region(7)]).toEqual([[7, 0x100000n, 0n], [0, 0n, 1n << 40n], [3, 0x100n, 7n << 40n]]);
  expect([region(8), region(9), region(0, 31)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  expect(vmm.ioctl(device, 'VFIO_DEVICE_RESET', {})).toBe('EINVAL');
});

test('GET_INFO and GET_REGION_INFO write nothing where they cannot read or write, and leave argsz as it is', () => {
  const { vmm, fd, group } = setUp();
  const device = vmm.openVfio(group.vfio[0]!);
  vmm.bindTo(device, fd);
  const info = { argsz: 24, flags: 0, numRegions: 0, numIrqs: 0 };
  const region = { argsz: 64, flags: 0, index: 0, size: 0n, offset: 0n };
  for (const argument of ['absent', 'read-only'] as const) {
    const [noInfo, noRegion] = [{ ...info, argument }, { ...region, argument }];
    expect([vmm.ioctl(device, 'VFIO_DEVICE_GET_INFO', noInfo), vmm.ioctl(device, 'VFIO_DEVICE_GET_REGION_INFO', noRegion)]).toEqual(['EFAULT', 'EFAULT']);
    expect([noInfo, noRegion]).toEqual([{ ...info, argument }, { ...region, argument }]);
  }
  expect(vmm.ioctl(device, 'VFIO_DEVICE_GET_INFO', { ...info, argsz: 0, argument: 'absent' })).toBe('EFAULT');
  expect(vmm.ioctl(device, 'VFIO_DEVICE_GET_REGION_INFO', { ...region, index: 8, argument: 'read-only' })).toBe('EINVAL');
  expect([vmm.ioctl(device, 'VFIO_DEVICE_GET_INFO', info), vmm.ioctl(device, 'VFIO_DEVICE_GET_REGION_INFO', region)]).toEqual([null, null]);
  expect([info.argsz, region.argsz, region.size]).toEqual([24, 64, 0x100000n]);
});

test('67: where interrupts are not remapped no device can be bound', () => {
  const { vmm, fd, group } = setUp();
  vmm.world.leaveInterruptsUnsafe();
  expect(vmm.bindTo(vmm.openVfio(group.vfio[0]!), fd)).toBe('EPERM');
});
