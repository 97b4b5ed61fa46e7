import { ioctlUnknown } from '#src/kernel/syscalls';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

function setUp() {
  const vmm = new Vmm();
  const group = vmm.world.group('A', 'B');
  const fd = vmm.iommufd();
  return { vmm, fd, group, device: vmm.openVfio(group.vfio[0]!) };
}

test('25: BIND checks size and flags, then the descriptor, and a failure leaves nothing behind', () => {
  const { vmm, fd, device, group } = setUp();
  const closed = vmm.iommufd();
  vmm.close(closed);
  const before = vmm.ledger();
  const bind = (change: object) => vmm.ioctl(device, 'VFIO_DEVICE_BIND_IOMMUFD', { argsz: 24, flags: 0, iommufd: fd, outDevid: 0, ...change });
  expect(bind({ argsz: 15, iommufd: closed })).toBe('EINVAL');
  expect(bind({ flags: 2, iommufd: closed })).toBe('EINVAL');
  expect(bind({ iommufd: -1 })).toBe('EINVAL');
  expect(bind({ iommufd: closed })).toBe('EBADF');
  expect(bind({ iommufd: device })).toBe('EBADFD');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.bindTo(device, fd)).toBe(1);
  const other = vmm.iommufd();
  const mate = vmm.openVfio(group.vfio[1]!);
  const bound = vmm.ledger();
  expect(vmm.bindTo(mate, other)).toBe('EPERM');
  expect(vmm.ledger()).toEqual(bound);
});

/** BIND of the device with something changed. */
const binder = ({ vmm, fd, device }: ReturnType<typeof setUp>) => (change: object) =>
  vmm.ioctl(device, 'VFIO_DEVICE_BIND_IOMMUFD', { argsz: 24, flags: 0, iommufd: fd, outDevid: 0, ...change });

test('BIND reads its struct, then looks behind it, then at flags; 16 bytes are enough, zeros behind the token are no matter', () => {
  const world = setUp();
  const bind = binder(world);
  const before = world.vmm.ledger();
  const bad = { flags: 2, nonzeroTail: true };
  expect(bind({ ...bad, argsz: 15, argument: 'absent' })).toBe('EFAULT');
  expect([bind({ ...bad, argsz: 15 }), bind({ ...bad, argsz: 32 }), bind({ ...bad, argsz: 32, nonzeroTail: false })]).toEqual(['EINVAL', 'E2BIG', 'EINVAL']);
  expect(bind({ argument: 'read-only' })).toBe('EFAULT');
  expect(world.vmm.ledger()).toEqual(before);
  expect(bind({ argsz: 16 })).toBe(null);
  expect([bind({ argument: 'absent' }), bind({ argsz: 32, nonzeroTail: true }), bind({ argsz: 32 })]).toEqual(['EFAULT', 'E2BIG', 'EINVAL']);
});

test('BIND with a token reads the token before anybody says that the device has none, and both before the iommufd is looked for', () => {
  const world = setUp();
  const { vmm } = world;
  const bind = (change: object) => binder(world)({ flags: 1, iommufd: 99, ...change });
  const va = vmm.process.memory(page);
  const before = vmm.ledger();
  expect([bind({}), bind({ token: 0n }), bind({ token: va - 1n }), bind({ token: va + 4081n })]).toEqual(['EFAULT', 'EFAULT', 'EFAULT', 'EFAULT']);
  expect([bind({ token: va }), bind({ token: va + 4080n }), bind({ token: va, argsz: 40 })]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  // Behind the struct the pointer reads as 0.
  expect([bind({ token: va, argsz: 16 }), bind({ token: va, argsz: 15 })]).toEqual(['EFAULT', 'EINVAL']);
  expect(bind({ token: (1n << 63n) | va, argsz: 23 })).toBe('EINVAL');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.bindTo(world.device, world.fd)).toBe(1);
  expect(bind({ token: 0n })).toBe('EINVAL');
});

test('26: a second descriptor of a bound device opens and cannot be bound', () => {
  const { vmm, fd, device, group } = setUp();
  expect(vmm.bindTo(device, fd)).toBe(1);
  const second = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(second, fd)).toBe('EINVAL');
  expect(vmm.bindTo(second, 99)).toBe('EBADF');
  expect(vmm.attach(second, 1)).toBe('EINVAL');
  vmm.close(device);
  expect(vmm.bindTo(second, fd)).toBe(1);
});

test('27: before BIND every other call is EINVAL, whatever is wrong with it', () => {
  const { vmm, device } = setUp();
  expect(vmm.attach(device, 99)).toBe('EINVAL');
  expect(vmm.detach(device)).toBe('EINVAL');
  expect(vmm.ioctl(device, 'VFIO_DEVICE_GET_REGION_INFO', { argsz: 0, flags: 0, index: 0, size: 0n, offset: 0n })).toBe('EINVAL');
  expect(vmm.ioctl(device, 'IOMMU_DESTROY', { id: 1 })).toBe('EINVAL');
  expect(vmm.ioctl(device, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 8, flags: 0, argument: 'absent' })).toBe('EINVAL');
});

test('27: an unknown word too is EINVAL before BIND and ENOTTY after it', () => {
  const { vmm, fd, device } = setUp();
  const unknown = () => errnoOf(() => ioctlUnknown(vmm.world.kernel, device, 0x3b7f, { argument: 'absent' }));
  expect(unknown()).toBe('EINVAL');
  vmm.bindTo(device, fd);
  expect(unknown()).toBe('ENOTTY');
});

test('a command of the other kind of descriptor is ENOTTY, a closed one EBADF, an unknown device ENOENT', () => {
  const { vmm, fd, device } = setUp();
  vmm.bindTo(device, fd);
  expect(vmm.ioctl(device, 'IOMMU_DESTROY', { id: 1 })).toBe('ENOTTY');
  expect(vmm.detach(fd)).toBe('ENOTTY');
  expect([vmm.destroy(99, 1), vmm.destroy(-1, 1), vmm.destroy(2, 1)]).toEqual(['EBADF', 'EBADF', 'EBADF']);
  expect(() => vmm.openVfio(9)).toThrow(expect.objectContaining({ name: 'ENOENT' }));
  expect(() => vmm.open('/dev/null')).toThrow(expect.objectContaining({ name: 'ENOENT' }));
});

test('ATTACH and DETACH check size and flags before anything else', () => {
  const { vmm, fd, device } = setUp();
  vmm.bindTo(device, fd);
  const attach = (change: object) => vmm.ioctl(device, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId: 99, ...change });
  expect([attach({ argsz: 11 }), attach({ flags: 2 }), attach({})]).toEqual(['EINVAL', 'EINVAL', 'ENOENT']);
  const detach = (change: object) => vmm.ioctl(device, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0, ...change });
  expect([detach({ argsz: 7 }), detach({ flags: 2 }), detach({})]).toEqual(['EINVAL', 'EINVAL', null]);
});

test('ATTACH and DETACH need four bytes more with a PASID, ignore what lies behind, and say EFAULT before all that', () => {
  const { vmm, fd, device } = setUp();
  const ioas = vmm.ioas(fd);
  vmm.bindTo(device, fd);
  const attach = (change: object) => vmm.ioctl(device, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 12, flags: 0, ptId: ioas, ...change });
  const detach = (change: object) => vmm.ioctl(device, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 8, flags: 0, ...change });
  expect([attach({ argsz: 0, flags: 2, argument: 'absent' }), detach({ argsz: 0, flags: 2, argument: 'absent' })]).toEqual(['EFAULT', 'EFAULT']);
  expect([attach({ flags: 1, pasid: 5, argsz: 15, ptId: 99 }), attach({ flags: 1, pasid: 5, argsz: 16, ptId: 99 })]).toEqual(['EINVAL', 'ENOENT']);
  expect([detach({ flags: 1, pasid: 5, argsz: 11 }), detach({ flags: 1, pasid: 5, argsz: 12 })]).toEqual(['EINVAL', null]);
  expect([attach({ argsz: 64, nonzeroTail: true }), detach({ flags: 1, pasid: 5, argument: 'absent' })]).toEqual([null, 'EFAULT']);
  expect([detach({ argument: 'absent' }), attach({}), detach({ argsz: 64, nonzeroTail: true, argument: 'read-only' })]).toEqual(['EFAULT', null, null]);
  expect(vmm.destroy(fd, ioas)).toBe(null);
});

test('a group that a kernel driver does DMA through cannot be claimed', async () => {
  const { bindDriver, unbindDriver } = await import('#src/kernel/kernel-driver');
  const { PciDevice } = await import('#src/kernel/iommu-group');
  const { KernelRoot } = await import('#src/kernel/kernel');
  const { VfioDevice } = await import('#src/kernel/vfio');
  const { vmm, fd, device } = setUp();
  const { kernel } = vmm.world;
  // The mate's: the list of VFIO devices begins with the youngest.
  const mate = PciDevice.function.peek(kernel.memory, VfioDevice.device.peek(kernel.memory, KernelRoot.vfioDevices.peek(kernel.memory, kernel.root)));
  bindDriver(kernel, mate);
  const before = vmm.ledger();
  expect(vmm.bindTo(device, fd)).toBe('EPERM');
  expect(vmm.ledger()).toEqual(before);
  unbindDriver(kernel, mate);
  expect(vmm.bindTo(device, fd)).toBe(1);
});

test('whatever order descriptors are closed in, nothing is left', () => {
  for (const order of [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]) {
    const vmm = new Vmm();
    const group = vmm.world.group('A', 'B');
    const va = vmm.process.memory(4096);
    // The list of descriptors has its node already.
    vmm.iommufd();
    const before = vmm.ledger();
    const fd = vmm.iommufd();
    const fds = [fd, ...group.vfio.map((number) => vmm.process.bind(number, fd))];
    const ids = [vmm.ioas(fd), vmm.ioas(fd)];
    for (const id of ids) vmm.map(fd, id, 0x1000, va);
    vmm.attach(fds[1]!, ids[0]!);
    vmm.attach(fds[2]!, ids[0]!);
    vmm.attach(fds[2]!, ids[1]!);
    for (const which of order) vmm.close(fds[which]!);
    expect(vmm.ledger()).toEqual(before);
    expect(vmm.bindTo(vmm.openVfio(group.vfio[0]!), vmm.iommufd())).toBe(1);
  }
});
