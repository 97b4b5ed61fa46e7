/** What the selftest's vIOMMUs, nested HWPTs and devices do with what user space hands them, in the driver's order. */
import { expect, test } from 'vitest';
import { read } from '#src/kernel/syscalls';
import { MockWorld } from './mock-world.ts';

const known = 0xdeadbeef;

function setUp(deviceFlags: number = 0) {
  const world = new MockWorld();
  const { stdev, idev } = world.device(world.ioasId, deviceFlags) as { stdev: number; idev: number };
  const parent = world.hwpt(idev, 1) as number;
  const viommu = (change: object = {}) => {
    const arg = { flags: 0, type: known, devId: idev, hwptId: parent, outViommuId: 0, ...change };
    return world.ioctl('IOMMU_VIOMMU_ALLOC', arg) ?? arg.outViommuId;
  };
  const vdevice = (viommuId: number, virtId: bigint) => {
    const arg = { viommuId, devId: idev, virtId, outVdeviceId: 0 };
    return world.ioctl('IOMMU_VDEVICE_ALLOC', arg) ?? arg.outVdeviceId;
  };
  const invalidate = (hwptId: number, entryLength: number, entryCount: number, bytes: number[] | null, dataType: number = known) => {
    const arg = { hwptId, dataType, entryLength, entryCount, ...(bytes === null ? {} : { data: Uint8Array.from(bytes) }) };
    return [world.ioctl('IOMMU_HWPT_INVALIDATE', arg), arg.entryCount];
  };
  return { world, stdev, idev, parent, viommu, vdevice, invalidate };
}

test('a vIOMMU takes 8 to 24 bytes of data, and their length is looked at before them', () => {
  const { viommu } = setUp();
  for (const dataLength of [1, 7, 25, 32]) {
    expect(viommu({ dataLength, data: new Uint8Array(dataLength) })).toBe('EINVAL');
    expect(viommu({ dataLength })).toBe('EINVAL');
  }
  expect(viommu({ dataLength: 8 })).toBe('EFAULT');
  for (const dataLength of [0, 8, 24]) expect(viommu({ dataLength, data: new Uint8Array(dataLength) })).toEqual(expect.any(Number));
});

test('data of an HWPT are read behind the check of flags, type and length', () => {
  const { world, idev, parent, viommu } = setUp(1);
  const through = viommu() as number;
  const hwpt = (ptId: number, dataType: number, dataLength: number, flags: number = 0) =>
    world.ioctl('IOMMU_HWPT_ALLOC', { flags, devId: idev, ptId, dataType, dataLength, outHwptId: 0 });
  for (const ptId of [world.ioasId, parent, through]) {
    expect(hwpt(ptId, 5, 8)).toBe('EOPNOTSUPP');
    expect([3, 9].map((length) => hwpt(ptId, 0xdead, length))).toEqual(['EINVAL', 'EINVAL']);
    expect(hwpt(ptId, 0xdead, 8)).toBe('EFAULT');
  }
  expect(hwpt(world.ioasId, 0xdead, 8, 2)).toBe('EOPNOTSUPP');
});

test('entries of a nested HWPT are read one by one, and none is a question about the type', () => {
  const { world, idev, parent, invalidate } = setUp();
  const nested = world.hwpt(idev, 0, parent, new Uint8Array(8)) as number;
  for (const length of [0, 4, 16]) expect(invalidate(nested, length, 0, [])).toEqual([null, 0]);
  expect(invalidate(nested, 8, 0, [], 0xdead)).toEqual(['EINVAL', 0]);
  expect(invalidate(nested, 16, 1, [...new Uint8Array(16)])).toEqual(['EINVAL', 0]);
  expect(invalidate(nested, 8, 2, [...new Uint8Array(8)])).toEqual(['EFAULT', 1]);
  expect(invalidate(nested, 8, 1, null)).toEqual(['EFAULT', 0]);
  expect(invalidate(nested, 8, 1, null, 0xdead)).toEqual(['EINVAL', 0]);
});

test('entries of a vIOMMU may be shorter or longer than the kernel\'s', () => {
  const { viommu, vdevice, invalidate, world, idev } = setUp();
  const id = viommu() as number;
  vdevice(id, 5n);
  expect(invalidate(id, 8, 1, [0, 0, 0, 0, 5, 0, 0, 0])).toEqual([null, 1]);
  expect(world.test('IOMMU_TEST_DEV_CHECK_CACHE', { id: idev, cacheId: 0, cache: 0 })).toBe(0);
  const long = [0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
  expect(invalidate(id, 16, 1, long)).toEqual([null, 1]);
  expect(invalidate(id, 16, 2, [...long, ...long.with(15, 1)])).toEqual(['E2BIG', 0]);
  expect(invalidate(id, 12, 1, null)).toEqual(['EFAULT', 0]);
  expect(invalidate(id, 13, 0, [])).toEqual([null, 0]);
});

test('an event has the number that the device had when it was attached', () => {
  const { world, idev, parent, stdev, viommu, vdevice } = setUp();
  const id = viommu() as number;
  const queue = { flags: 0, viommuId: id, type: 0xbeefbeef, depth: 4, outEventQueueId: 0, outEventQueueFd: 0 };
  expect(world.ioctl('IOMMU_VEVENTQ_ALLOC', queue)).toBeNull();
  const trigger = () => world.test('IOMMU_TEST_TRIGGER_VEVENT', { deviceId: idev });
  const nested = world.hwpt(idev, 0, id, new Uint8Array(8)) as number;
  expect(trigger()).toBe('ENOENT');
  const first = vdevice(id, 5n) as number;
  const move = (ptId: number) => world.test('IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: stdev, ptId });
  expect(move(nested)).toBe(0);
  expect(trigger()).toBe(0);
  expect(world.destroy(first)).toBeNull();
  expect(trigger()).toBe(0);
  vdevice(id, 6n);
  expect(trigger()).toBe(0);
  expect(numbersIn(read(world.kernel, queue.outEventQueueFd, 1024))).toEqual([5, 5, 5]);
  expect(move(parent)).toBe(0);
  expect(trigger()).toBe('ENOENT');
  expect(move(nested)).toBe(0);
  expect(trigger()).toBe(0);
  expect(numbersIn(read(world.kernel, queue.outEventQueueFd, 1024))).toEqual([6]);
});

test('number 0 of a vIOMMU is none to the selftest', () => {
  const { world, idev, stdev, viommu, vdevice } = setUp();
  const id = viommu() as number;
  vdevice(id, 0n);
  world.test('IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: stdev, ptId: world.hwpt(idev, 0, id, new Uint8Array(8)) as number });
  expect(world.test('IOMMU_TEST_TRIGGER_VEVENT', { deviceId: idev })).toBe('ENOENT');
});

test('a page request is reported, and whether somebody took it is not', () => {
  const { world, idev } = setUp(4);
  const ask = (deviceId: number, pasid: number) => world.test('IOMMU_TEST_TRIGGER_IOPF', { deviceId, pasid, group: 1, permissions: 1, address: 0x1000n });
  expect([ask(idev, 0), ask(idev, 5), ask(99, 0)]).toEqual([0, 0, 'ENOENT']);
});

test('PASID 0 is the RID', () => {
  const { world, stdev, parent } = setUp(4);
  const check = (pasid: number, hwptId: number) => world.test('IOMMU_TEST_PASID_CHECK_HWPT', { id: stdev, pasid, hwptId });
  world.test('IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: stdev, ptId: parent });
  expect([check(0, parent), check(0, 0), check(5, 0)]).toEqual([0, 'EINVAL', 0]);
  expect(world.destroy(parent)).toBe('EBUSY');
  expect(world.test('IOMMU_TEST_PASID_DETACH', { id: stdev, pasid: 0 })).toBe(0);
  expect([check(0, parent), check(0, 0)]).toEqual(['EINVAL', 0]);
  expect(world.destroy(parent)).toBeNull();
  expect(world.test('IOMMU_TEST_PASID_DETACH', { id: stdev, pasid: 0 })).toBe(0);
  expect(world.destroy(stdev)).toBeNull();
});

test('what a test operation is asked for is looked at before its object, and flag 2 of a device is none', () => {
  const world = new MockWorld();
  expect(world.test('IOMMU_TEST_ADD_RESERVED', { id: 99, start: 0n, length: 0n })).toBe('EINVAL');
  expect(world.test('IOMMU_TEST_ADD_RESERVED', { id: 99, start: 2n ** 64n - 1n, length: 2n })).toBe('EOVERFLOW');
  expect(world.test('IOMMU_TEST_ADD_RESERVED', { id: 99, start: 0n, length: 1n })).toBe('ENOENT');
  expect([1, 2, 4, 8].map((flags) => typeof world.device(world.ioasId, flags))).toEqual(['object', 'string', 'object', 'string']);
});

/** The number in each event: 8 bytes of header, 4 of data. */
function numbersIn(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 12 }, (_, index) => view.getUint32(index * 12 + 8, true));
}
