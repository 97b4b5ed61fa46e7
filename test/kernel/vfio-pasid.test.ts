/** PASIDs of a VFIO device, and the faults of 7.2 around them (CONFIRMED K3, K4, K5, K7), each with its switch. */
import type { HwptAlloc } from '#src/kernel/hwpt-alloc';
import { Kernel } from '#src/kernel/kernel';
import type { FaultsOf72 } from '#src/kernel/faults-of-72';
import { ioctl } from '#src/kernel/syscalls';
import { correct, operationsOf } from '#src/kernel/variant';
import type { ErrnoName } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

const window = 0xfee00000;

function setUp(faults: Partial<FaultsOf72> = {}) {
  const vmm = new Vmm();
  const group = vmm.world.group('A', 'B', 'C');
  const fd = vmm.iommufd();
  const [one, two] = [1, 2].map((tag) => {
    const id = vmm.ioas(fd);
    vmm.map(fd, id, 0x1000, vmm.process.memory(page, tag));
    return id;
  }) as [number, number];
  const kernel = new Kernel(vmm.world.host, operationsOf({ ...correct, faults }), vmm.world.kernel.driver);
  kernel.enter(vmm.process.ref);
  const fds = group.vfio.map((number) => vmm.process.bind(number, fd));
  const hwpt = (ptId: number, change: Partial<HwptAlloc> = {}): number => {
    const arg = { flags: 8, devId: 3, ptId, outHwptId: 0, ...change };
    vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', arg);
    return arg.outHwptId;
  };
  const attach = (device: number, ptId: number, change: object = {}): number | ErrnoName => {
    const arg = { argsz: 16, flags: 0, ptId, ...change };
    return errnoOf(() => ioctl(kernel, fds[device]!, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', arg)) ?? arg.ptId;
  };
  const pasid = (device: number, number: number, ptId: number, change: object = {}) => attach(device, ptId, { flags: 1, pasid: number, ...change });
  const detach = (device: number, change: object = {}) =>
    errnoOf(() => ioctl(kernel, fds[device]!, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0, ...change }));
  const see = () => ['A', 'B', 'C'].map((name) => vmm.sees(name, 0x1000));
  const faultHwpt = (ioas: number) => {
    const queue = { flags: 0, outFaultId: 0, outFaultFd: 0 };
    vmm.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', queue);
    return hwpt(ioas, { flags: 4, faultId: queue.outFaultId });
  };
  return { vmm, fd, fds, one, two, hwpt, attach, pasid, detach, see, faultHwpt };
}

const blocked = 'fault 2';

test('a PASID needs an HWPT made for PASIDs, and so does the RID while one is attached', () => {
  const { vmm, fd, one, two, hwpt, attach, pasid, detach } = setUp();
  const [plain, forPasids, other] = [hwpt(one, { flags: 0 }), hwpt(one), hwpt(two)];
  expect([pasid(0, 5, one), pasid(0, 5, plain), pasid(0, 5, 99)]).toEqual(['EINVAL', 'EINVAL', 'ENOENT']);
  expect(attach(0, plain)).toBe(plain);
  expect(pasid(0, 5, forPasids)).toBe('EINVAL');
  expect(attach(0, forPasids)).toBe(forPasids);
  expect([pasid(0, 5, forPasids), pasid(0, 5, other), pasid(0, 6, other)]).toEqual([forPasids, other, other]);
  expect([attach(0, plain), attach(0, one), attach(0, other)]).toEqual(['EINVAL', 'EINVAL', other]);
  expect(pasid(1, 5, forPasids)).toBe('EINVAL');
  expect(pasid(1, 5, other)).toBe(other);
  expect(vmm.destroy(fd, other)).toBe('EBUSY');
  // A replace moves the slot for both members.
  expect(pasid(1, 5, forPasids)).toBe(forPasids);
  expect([detach(0, { flags: 1, pasid: 5 }), detach(1, { flags: 1, pasid: 5 }), detach(0, { flags: 1, pasid: 6 }), detach(0)]).toEqual([null, null, null, null]);
  expect([plain, forPasids, other].map((id) => vmm.destroy(fd, id))).toEqual([null, null, null]);
});

test('the table of PASIDs ends at 2^31-1, sizes and flags are checked first, and what is not attached detaches silently', () => {
  const { one, hwpt, pasid, detach, attach } = setUp();
  const id = hwpt(one);
  expect([0xfffff, 0x7fffffff, 0x80000000, 0xffffffff].map((number) => pasid(0, number, id))).toEqual([id, id, 'ENOSPC', 'ENOSPC']);
  expect([detach(0, { flags: 1, pasid: 0xffffffff }), detach(0, { flags: 1, pasid: 77 })]).toEqual([null, null]);
  expect([attach(0, id, { flags: 1, argsz: 12 }), attach(0, id, { flags: 2 }), detach(0, { flags: 1, argsz: 8 })]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
});

test('closing a device lets go of every PASID', () => {
  const { vmm, fd, fds, one, hwpt, pasid } = setUp();
  const id = hwpt(one);
  for (const number of [0x10, 5, 9]) expect(pasid(0, number, id)).toBe(id);
  vmm.close(fds[0]!);
  expect(vmm.destroy(fd, id)).toBe(null);
});

test('K5: a PASID attach of 0 attaches the RID, which the ordinary calls do not see', () => {
  const { one, two, attach, pasid, detach, see } = setUp();
  pasid(0, 0, one);
  expect(see()).toEqual([1, 1, 1]);
  expect([detach(0), attach(0, one), attach(0, two)]).toEqual([null, 'EBUSY', 'EBUSY']);
  expect(see()).toEqual([1, 1, 1]);
  pasid(0, 0, two);
  expect(see()).toEqual([2, 2, 2]);
  expect(detach(0, { flags: 1, pasid: 0 })).toBe(null);
  expect(see()).toEqual([blocked, blocked, blocked]);
  attach(0, one);
  expect(pasid(0, 0, two)).toBe('EBUSY');
});

test('K5 repaired: PASID 0 is refused', () => {
  const { one, pasid, see } = setUp({ pasidZeroIsRid: false });
  expect(pasid(0, 0, one)).toBe('EINVAL');
  expect(see()).toEqual([blocked, blocked, blocked]);
});

test('K3: an attach that cannot write pt_id detaches the RID, whatever it attached', () => {
  const { vmm, fd, one, two, hwpt, attach, pasid, detach, see } = setUp();
  const [a, b] = [hwpt(one), hwpt(two)];
  const readOnly = { argument: 'read-only' };
  expect(attach(0, a, readOnly)).toBe('EFAULT');
  expect(see()).toEqual([blocked, blocked, blocked]);
  attach(0, a);
  expect(pasid(0, 5, b, readOnly)).toBe('EFAULT');
  expect(see()).toEqual([blocked, blocked, blocked]);
  expect([vmm.destroy(fd, a), vmm.destroy(fd, b)]).toEqual([null, 'EBUSY']);
  detach(0, { flags: 1, pasid: 5 });
  // A replace stays in force for the mate, and the one that asked is off the list.
  expect([attach(0, one), attach(1, one), attach(0, two, readOnly)]).toEqual([a, a, 'EFAULT']);
  expect(see()).toEqual([2, 2, 2]);
  expect(attach(0, one)).toBe('EINVAL');
  expect(attach(0, one, { argument: 'absent' })).toBe('EFAULT');
  expect(see()).toEqual([2, 2, 2]);
});

test('K3 repaired: the PASID is undone and the RID stays', () => {
  const { vmm, fd, one, two, hwpt, attach, pasid, see } = setUp({ pasidUndoHitsRid: false });
  const [a, b] = [hwpt(one), hwpt(two)];
  attach(0, a);
  expect(pasid(0, 5, b, { argument: 'read-only' })).toBe('EFAULT');
  expect(see()).toEqual([1, 1, 1]);
  expect(vmm.destroy(fd, b)).toBe(null);
});

test.each([[true, null], [false, 'EINVAL']] as const)('K4 %s: after a failed replace within one IOAS a MAP in the interrupt window is %s', (switched, errno) => {
  const { vmm, fd, one, hwpt, attach, pasid, detach } = setUp({ failedReplaceDropsReserved: switched });
  const id = hwpt(one);
  for (const device of [0, 1]) attach(device, id);
  pasid(0, 5, id);
  const va = vmm.process.memory(page);
  expect(vmm.map(fd, one, window, va)).toBe('EINVAL');
  expect(attach(0, one)).toBe('EINVAL');
  expect(vmm.map(fd, one, window, va)).toBe(errno);
  if (!switched) return;
  detach(0);
  expect(attach(0, id)).toBe('EADDRINUSE');
  expect(vmm.unmap(fd, one, window, page)).toBe(0x1000n);
  expect(attach(0, id)).toBe(id);
  expect(vmm.map(fd, one, window, va)).toBe('EINVAL');
});

test.each([[true, [blocked, 1, 1]], [false, [1, 1, 1]]] as const)('K7 %s: a replace that the driver refuses leaves the members with %j, whoever asked', (switched, seen) => {
  const { one, two, hwpt, attach, see, faultHwpt } = setUp({ failedReplaceLeavesBlocked: switched });
  const id = hwpt(one, { flags: 0 });
  for (const device of [0, 1, 2]) attach(device, id);
  const refused = faultHwpt(two);
  expect(attach(1, refused)).toBe('ENODEV');
  expect(see()).toEqual(seen);
  // The recorded HWPT is no repair: nothing is done. Another one is.
  expect(attach(0, id)).toBe(id);
  expect(see()).toEqual(seen);
  expect(attach(0, two)).toBeTypeOf('number');
  expect(see()).toEqual([2, 2, 2]);
});
