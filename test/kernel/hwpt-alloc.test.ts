/** HWPTs that their user makes, and what stands beside them: fault queues, hardware info, what VT-d refuses. */
import type { HwptAlloc } from '#src/kernel/hwpt-alloc';
import type { GetDirtyBitmap } from '#src/kernel/dirty';
import type { GetHwInfo } from '#src/kernel/hw-info';
import type { ErrnoName } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { page, U64, Vmm } from './vmm.ts';

/** IOAS 1 with a page, the group's DEVICEs 2 and 3, attached to nothing. */
function setUp() {
  const vmm = new Vmm();
  const group = vmm.world.group('A', 'B');
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  vmm.map(fd, ioas, 0x1000, vmm.process.memory(page, 7));
  const fds = group.vfio.map((number) => vmm.process.bind(number, fd));
  const allocate = (change: Partial<HwptAlloc> = {}): number | ErrnoName => {
    const arg = { flags: 0, devId: 2, ptId: ioas, outHwptId: 0, ...change };
    return vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', arg) ?? arg.outHwptId;
  };
  const queue = () => {
    const arg = { flags: 0, outFaultId: 0, outFaultFd: 0 };
    vmm.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', arg);
    return arg;
  };
  return { vmm, fd, ioas, fds, allocate, queue };
}

test.each<[string, Partial<HwptAlloc>, ErrnoName]>([
  ['a reserved field', { reserved: 1, devId: 9 }, 'EOPNOTSUPP'],
  ['data without a type', { dataLength: 4, devId: 9 }, 'EINVAL'],
  ['a type without data', { dataType: 1, devId: 9 }, 'EINVAL'],
  ['no such device', { devId: 9, ptId: 9, flags: 0x400 }, 'ENOENT'],
  ['an IOAS for a device', { devId: 1 }, 'ENOENT'],
  ['no such page table', { ptId: 9, flags: 0x400 }, 'EINVAL'],
  ['a device for a page table', { ptId: 3 }, 'EINVAL'],
  ['an unknown flag', { flags: 0x400 }, 'EOPNOTSUPP'],
  ['NEST_PARENT', { flags: 1 }, 'EOPNOTSUPP'],
  ['DIRTY_TRACKING', { flags: 2 }, 'EOPNOTSUPP'],
  ['FAULT_ID_VALID without a queue', { flags: 4 }, 'ENOENT'],
  ['FAULT_ID_VALID with NEST_PARENT', { flags: 5 }, 'EOPNOTSUPP'],
  ['data for a paging domain', { dataType: 1, dataLength: 16 }, 'EOPNOTSUPP'],
])('48, 49: HWPT_ALLOC with %s is refused and leaves nothing behind', (_, change, errno) => {
  const { vmm, allocate } = setUp();
  const before = vmm.ledger();
  expect(allocate(change)).toBe(errno);
  expect(vmm.ledger()).toEqual(before);
  expect(allocate()).toBe(4);
});

test('an HWPT is no parent of a nested one: without data EOPNOTSUPP, with data EINVAL', () => {
  const { allocate } = setUp();
  const hwpt = allocate() as number;
  expect(allocate({ ptId: hwpt })).toBe('EOPNOTSUPP');
  expect(allocate({ ptId: hwpt, flags: 1, dataType: 1, dataLength: 16 })).toBe('EOPNOTSUPP');
  expect(allocate({ ptId: hwpt, dataType: 1, dataLength: 16 })).toBe('EINVAL');
});

test('20, 21, 39: it pins at once, is attached by its id beside others of the IOAS, and stays until it is destroyed', () => {
  const { vmm, fd, ioas, fds, allocate } = setUp();
  const hwpt = allocate() as number;
  expect(vmm.ledger().pinned).toBe(1);
  expect(vmm.destroy(fd, ioas)).toBe('EBUSY');
  expect(vmm.attach(fds[0]!, ioas)).toBe(hwpt + 1);
  expect(vmm.attach(fds[1]!, hwpt)).toBe('EINVAL');
  expect(vmm.attach(fds[1]!, ioas)).toBe(hwpt + 1);
  expect(vmm.attach(fds[1]!, hwpt)).toBe(hwpt);
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual([7, 7]);
  expect(vmm.destroy(fd, hwpt + 1)).toBe('ENOENT');
  expect(vmm.destroy(fd, hwpt)).toBe('EBUSY');
  for (const device of fds) vmm.detach(device);
  expect(vmm.ledger().pinned).toBe(1);
  expect([vmm.destroy(fd, hwpt), vmm.destroy(fd, ioas)]).toEqual([null, null]);
  expect(vmm.ledger().pinned).toBe(0);
});

test('51: an HWPT with a fault queue holds the queue, and no device here can attach it', () => {
  const { vmm, fd, fds, allocate, queue } = setUp();
  const { outFaultId, outFaultFd } = queue();
  const hwpt = allocate({ flags: 4, faultId: outFaultId }) as number;
  expect(allocate({ flags: 4, faultId: hwpt })).toBe('ENOENT');
  expect(vmm.attach(fds[0]!, hwpt)).toBe('ENODEV');
  expect(vmm.destroy(fd, outFaultId)).toBe('EBUSY');
  expect(vmm.destroy(fd, hwpt)).toBe(null);
  expect(vmm.destroy(fd, outFaultId)).toBe('EBUSY');
  vmm.close(outFaultFd);
  expect(vmm.destroy(fd, outFaultId)).toBe(null);
});

test('a fault queue\'s descriptor keeps the context, which goes with the last of them', () => {
  const vmm = new Vmm();
  const before = vmm.ledger();
  const fd = vmm.iommufd();
  const arg = { flags: 1, outFaultId: 0, outFaultFd: 0 };
  expect(vmm.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', arg)).toBe('EOPNOTSUPP');
  expect(vmm.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', { ...arg, flags: 0 })).toBe(null);
  vmm.close(fd);
  expect(vmm.ledger().objects).toBeGreaterThan(before.objects);
  vmm.close(fd + 1);
  // The table of descriptors itself keeps its node until its process goes.
  expect(vmm.ledger().objects - before.objects).toBeLessThanOrEqual(1);
});

test('52: GET_HW_INFO tells VT-d\'s registers, as much as there is room for', () => {
  const { vmm, fd } = setUp();
  const ask = (change: Partial<GetHwInfo> = {}) => {
    const arg: GetHwInfo = { flags: 0, devId: 2, dataLength: 24, dataType: 0, outMaxPasidLog2: 9, outCapabilities: 0n, ...change };
    return vmm.ioctl(fd, 'IOMMU_GET_HW_INFO', arg) ?? arg;
  };
  const all = ask() as GetHwInfo;
  expect(all).toMatchObject({ dataLength: 24, dataType: 1, outMaxPasidLog2: 0, outCapabilities: 8n });
  expect(Buffer.from(all.data!).toString('hex')).toBe('0100000000000000060226228c00d2004a0ff00000000000');
  expect(Buffer.from((ask({ dataLength: 10 }) as GetHwInfo).data!).toString('hex')).toBe('01000000000000000602');
  expect((ask({ dataLength: 32 }) as GetHwInfo).data!.slice(24)).toEqual(new Uint8Array(8));
  expect((ask({ flags: 1, dataType: 1 }) as GetHwInfo).dataType).toBe(1);
  expect([ask({ flags: 2, devId: 9 }), ask({ reserved: 1 }), ask({ devId: 9 }), ask({ devId: 1 })]).toEqual(['EOPNOTSUPP', 'EOPNOTSUPP', 'ENOENT', 'ENOENT']);
  expect([ask({ flags: 1, dataType: 2 }), ask({ flags: 1, dataType: 0xdead })]).toEqual(['EOPNOTSUPP', 'EOPNOTSUPP']);
});

test('50: dirty tracking is refused, after what is wrong with the call itself', () => {
  const { vmm, fd, allocate } = setUp();
  const hwptId = allocate() as number;
  const set = (flags: number, id: number) => vmm.ioctl(fd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', { flags, hwptId: id });
  expect([set(2, 9), set(1, 9), set(1, 1), set(1, hwptId), set(0, hwptId)]).toEqual(['EOPNOTSUPP', 'ENOENT', 'ENOENT', 'EOPNOTSUPP', 'EOPNOTSUPP']);
  const get = (change: Partial<GetDirtyBitmap>) =>
    vmm.ioctl(fd, 'IOMMU_HWPT_GET_DIRTY_BITMAP', { hwptId, flags: 0, iova: 0x1000n, length: 0x1000n, pageSize: 0x1000n, ...change });
  expect([get({ flags: 2, hwptId: 9 }), get({ reserved: 1, hwptId: 9 }), get({ hwptId: 9 })]).toEqual(['EOPNOTSUPP', 'EOPNOTSUPP', 'ENOENT']);
  expect([get({ iova: U64 }), get({ length: 0n }), get({ iova: 1n }), get({ length: 1n })]).toEqual(['EOVERFLOW', 'EOVERFLOW', 'EINVAL', 'EINVAL']);
  expect([get({ pageSize: 0n }), get({ pageSize: 0x2000n }), get({}), get({ iova: 0n, length: 0n })]).toEqual(['EINVAL', 'EINVAL', 'EOPNOTSUPP', 'EOPNOTSUPP']);
});

test('50: there is no vIOMMU for VT-d', () => {
  const { vmm, fd } = setUp();
  const allocate = (change: object) => vmm.ioctl(fd, 'IOMMU_VIOMMU_ALLOC', { flags: 0, type: 1, devId: 2, hwptId: 9, outViommuId: 0, ...change });
  expect([allocate({ flags: 1, devId: 9 }), allocate({ type: 0, devId: 9 }), allocate({ devId: 9 }), allocate({})]).toEqual(['EOPNOTSUPP', 'EOPNOTSUPP', 'ENOENT', 'EOPNOTSUPP']);
});

test('a struct that is too short is EINVAL, one with more in it than is known E2BIG, before anything else is looked at', () => {
  const { vmm, fd, ioas } = setUp();
  expect(vmm.ioctl(fd, 'IOMMU_DESTROY', { id: 99, size: 7 })).toBe('EINVAL');
  expect(vmm.ioctl(fd, 'IOMMU_DESTROY', { id: 99, size: 12, nonzeroTail: true })).toBe('E2BIG');
  expect(vmm.ioctl(fd, 'IOMMU_DESTROY', { id: 99, size: 12 })).toBe('ENOENT');
  const allocate = { flags: 0, devId: 2, ptId: ioas, outHwptId: 0 };
  expect([vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', { ...allocate, size: 23 }), vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', { ...allocate, size: 24 })]).toEqual(['EINVAL', null]);
});
