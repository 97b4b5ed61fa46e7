/** Nested HWPTs, vIOMMUs and what lives in them. */
import { NULL, type Ref } from '#hostmem/object';
import type { ErrnoName } from '#src/kernel/errno';
import { reportEvent } from '#src/kernel/event-queue';
import { Iommufd, IommufdObject } from '#src/kernel/objects';
import { getFile, putFile } from '#src/kernel/file';
import { File } from '#src/kernel/open-file';
import { close, poll, read } from '#src/kernel/syscalls';
import { expect, test } from 'vitest';
import { AbleVmm, known } from './able-driver.ts';
import { errnoOf, page } from './vmm.ts';

const NEST_PARENT = 1;

/** IOAS 1, DEVICE 2, nest parent 3, vIOMMU 4. */
function setUp() {
  const vmm = new AbleVmm();
  const parent = vmm.hwpt(NEST_PARENT) as number;
  const viommu = vmm.viommu(parent) as number;
  return { vmm, fd: vmm.fd, parent, viommu };
}

function viommuRef(vmm: AbleVmm, id: number): Ref<'Viommu'> {
  const { memory } = vmm.kernel;
  const file = getFile(vmm.kernel, vmm.fd);
  const header = Iommufd.objects.get(memory, File.body.peek(memory, file) as Ref<'Iommufd'>, id) as Ref<'IommufdObject'>;
  putFile(vmm.kernel, file);
  expect(header).not.toBe(NULL);
  return IommufdObject.body.peek(memory, header) as Ref<'Viommu'>;
}

test('a vIOMMU needs a type that the driver has and a nest parent', () => {
  const { vmm, parent } = setUp();
  const plain = vmm.hwpt(0) as number;
  expect(vmm.viommu(parent, 0)).toBe('EOPNOTSUPP');
  expect(vmm.viommu(9, known + 1)).toBe('EOPNOTSUPP');
  expect(vmm.viommu(9)).toBe('ENOENT');
  expect(vmm.viommu(vmm.ioasId)).toBe('ENOENT');
  expect(vmm.viommu(plain)).toBe('EINVAL');
});

test('the driver\'s answer lies over the user\'s data, and a vIOMMU that cannot be told is gone', () => {
  const { vmm, fd, parent } = setUp();
  const arg = { flags: 0, type: known, devId: 2, hwptId: parent, outViommuId: 0, dataLength: 3, data: Uint8Array.of(1, 2, 3) };
  expect(vmm.ioctl(fd, 'IOMMU_VIOMMU_ALLOC', arg)).toBeNull();
  expect([...arg.data]).toEqual([9, 9, 3]);
  const before = vmm.ledger();
  expect(vmm.ioctl(fd, 'IOMMU_VIOMMU_ALLOC', { ...arg, argument: 'read-only' })).toBe('EFAULT');
  expect(vmm.ioctl(fd, 'IOMMU_VIOMMU_ALLOC', { flags: 0, type: known, devId: 2, hwptId: parent, outViommuId: 0, dataLength: 3 })).toBe('EFAULT');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.state.viommus).toBe(2);
});

test('who is on a nest parent keeps it, directly or through a vIOMMU', () => {
  const { vmm, fd, parent, viommu } = setUp();
  const data = new Uint8Array(8);
  const direct = vmm.hwpt(0, parent, data) as number;
  const through = vmm.hwpt(0, viommu, data) as number;
  expect(vmm.state.nested).toBe(2);
  expect([parent, viommu, vmm.ioasId].map((id) => vmm.destroy(fd, id))).toEqual(['EBUSY', 'EBUSY', 'EBUSY']);
  expect([direct, through, viommu, parent].map((id) => vmm.destroy(fd, id))).toEqual([null, null, null, null]);
  expect(vmm.state).toMatchObject({ nested: 0, viommus: 0 });
});

test('a nested HWPT needs data, known flags and a parent made for it', () => {
  const { vmm, parent } = setUp();
  const data = new Uint8Array(8);
  const plain = vmm.hwpt(0) as number;
  expect(vmm.hwpt(0, parent)).toBe('EOPNOTSUPP');
  expect(vmm.hwpt(2, parent, data)).toBe('EOPNOTSUPP');
  expect(vmm.hwpt(0, plain, data)).toBe('EINVAL');
  expect(vmm.hwpt(4, parent, data)).toBe('ENOENT');
  const nested = vmm.hwpt(0, parent, data) as number;
  expect(vmm.hwpt(0, nested, data)).toBe('EINVAL');
});

test('the RID attaches a nested HWPT and reserves in the parent\'s IOAS', () => {
  const { vmm, fd, parent } = setUp();
  const nested = vmm.hwpt(0, parent, new Uint8Array(8)) as number;
  const holes = vmm.ranges(fd, vmm.ioasId).ranges.length;
  expect(vmm.attach(vmm.vfio, nested)).toBe(nested);
  expect(vmm.ranges(fd, vmm.ioasId).ranges.length).toBe(holes + 1);
  expect(vmm.destroy(fd, nested)).toBe('EBUSY');
  expect(vmm.detach(vmm.vfio)).toBeNull();
  expect(vmm.destroy(fd, nested)).toBeNull();
});

test.each<[object, ErrnoName | null, number]>([
  [{ reserved: 1 }, 'EOPNOTSUPP', 0], [{ data: null }, 'EINVAL', 0], [{ entryLength: 0 }, 'EINVAL', 0], [{ entryLength: 4097 }, 'EINVAL', 0],
  [{ entryCount: (1 << 19) + 1 }, 'EINVAL', 0], [{ hwptId: 99 }, 'ENOENT', 0], [{ hwptId: 1 }, 'EINVAL', 0], [{ dataType: 1 }, 'EINVAL', 0],
  [{ entryCount: 0 }, null, 0], [{}, null, 3], [{ data: Uint8Array.of(0, 0, 1) }, 'EIO', 2], [{ data: undefined }, 'EFAULT', 0],
])('an invalidation with %o is %s and tells of %i entries', (change, errno, handled) => {
  const { vmm, fd, viommu } = setUp();
  const nested = vmm.hwpt(0, viommu, new Uint8Array(8)) as number;
  for (const hwptId of [viommu, nested]) {
    const arg = { hwptId, data: new Uint8Array(3), dataType: known, entryLength: 1, entryCount: 3, ...change };
    expect(vmm.ioctl(fd, 'IOMMU_HWPT_INVALIDATE', arg)).toBe(errno);
    expect(arg.entryCount).toBe(handled);
  }
});

test('a device has one vdevice, a number one device', () => {
  const { vmm, fd, viommu } = setUp();
  expect(vmm.vdevice(99, 5n)).toBe('ENOENT');
  const vdevice = vmm.vdevice(viommu, 5n) as number;
  expect([...vmm.state.vdevices]).toEqual([5n]);
  expect(vmm.vdevice(viommu, 6n)).toBe('EEXIST');
  expect(vmm.destroy(fd, viommu)).toBe('EBUSY');
  expect(vmm.destroy(fd, vdevice)).toBeNull();
  expect(vmm.state.vdevices.size).toBe(0);
  expect(vmm.vdevice(viommu, 6n)).toBe(vdevice);
});

test('a vdevice that cannot be told leaves nothing behind', () => {
  const { vmm, fd, viommu } = setUp();
  const before = vmm.ledger();
  expect(vmm.ioctl(fd, 'IOMMU_VDEVICE_ALLOC', { argument: 'read-only', viommuId: viommu, devId: 2, virtId: 5n, outVdeviceId: 0 })).toBe('EFAULT');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.state.vdevices.size).toBe(0);
  expect(vmm.vdevice(viommu, 5n)).toBe(5);
});

test('an unbound device takes its vdevice with it, whose id stays a tombstone', () => {
  const { vmm, fd, viommu } = setUp();
  const vdevice = vmm.vdevice(viommu, 5n) as number;
  vmm.close(vmm.vfio);
  expect(vmm.state.vdevices.size).toBe(0);
  expect(vmm.destroy(fd, vdevice)).toBe('ENOENT');
  expect(vmm.ioas(fd)).toBe(2);
  expect(vmm.ioas(fd)).toBe(vdevice + 1);
  expect(vmm.destroy(fd, viommu)).toBeNull();
  vmm.close(fd);
});

function eventQueue(vmm: AbleVmm, viommuId: number, depth: number, type = 3): { id: number; fd: number } | ErrnoName {
  const arg = { flags: 0, viommuId, type, depth, outEventQueueId: 0, outEventQueueFd: 0 };
  return vmm.ioctl(vmm.fd, 'IOMMU_VEVENTQ_ALLOC', arg) ?? { id: arg.outEventQueueId, fd: arg.outEventQueueFd };
}

test('a vIOMMU has one event queue of a type, whose descriptor keeps it', () => {
  const { vmm, fd, viommu } = setUp();
  expect([eventQueue(vmm, viommu, 0), eventQueue(vmm, viommu, (1 << 19) + 1), eventQueue(vmm, 99, 1), eventQueue(vmm, viommu, 1, 0)])
    .toEqual(['EINVAL', 'EINVAL', 'ENOENT', 'EOPNOTSUPP']);
  const queue = eventQueue(vmm, viommu, 1) as { id: number; fd: number };
  expect(eventQueue(vmm, viommu, 1)).toBe('EEXIST');
  expect(vmm.destroy(fd, queue.id)).toBe('EBUSY');
  close(vmm.kernel, queue.fd);
  expect(vmm.destroy(fd, viommu)).toBe('EBUSY');
  expect(vmm.destroy(fd, queue.id)).toBeNull();
  expect(vmm.destroy(fd, viommu)).toBeNull();
});

test('events come in order; a full queue ends with the number of the last that was lost, until there is room', () => {
  const { vmm, viommu } = setUp();
  const queue = eventQueue(vmm, viommu, 2) as { id: number; fd: number };
  const report = (word: number): void => reportEvent(vmm.kernel, viommuRef(vmm, viommu), 3, [word]);
  const words = (count: number): number[] => [...new Uint32Array(read(vmm.kernel, queue.fd, count).slice().buffer)];
  expect(poll(vmm.kernel, queue.fd).readable).toBe(false);
  expect(errnoOf(() => words(7))).toBe('EINVAL');
  expect(words(12)).toEqual([]);
  for (const word of [10, 11, 12, 13]) report(word);
  expect(poll(vmm.kernel, queue.fd).readable).toBe(true);
  expect(errnoOf(() => words(11))).toBe('EINVAL');
  expect(words(12)).toEqual([0, 0, 10]);
  expect(words(64)).toEqual([0, 1, 11, 1, 3]);
  report(14);
  expect(words(64)).toEqual([0, 4, 14]);
  expect(errnoOf(() => reportEvent(vmm.kernel, viommuRef(vmm, viommu), 4, []))).toBe('EOPNOTSUPP');
});

function hwQueue(vmm: AbleVmm, viommuId: number, index: number, change: object = {}): number | ErrnoName {
  const arg = { flags: 0, viommuId, type: known, index, nestingParentIova: 0x10000n, length: 64n, outHwQueueId: 0, ...change };
  return vmm.ioctl(vmm.fd, 'IOMMU_HW_QUEUE_ALLOC', arg) ?? arg.outHwQueueId;
}

test('a hardware queue keeps its memory mapped and pinned, and goes before the one before it', () => {
  const { vmm, fd, viommu } = setUp();
  const before = vmm.ledger();
  expect(hwQueue(vmm, viommu, 0)).toBe('ENOENT');
  vmm.map(fd, vmm.ioasId, 0x10000, vmm.process.memory(page));
  const first = hwQueue(vmm, viommu, 0) as number;
  // The object that pins has the id between.
  const second = hwQueue(vmm, viommu, 1) as number;
  expect(second).toBe(first + 2);
  expect(vmm.destroy(fd, first + 1)).toBe('EBUSY');
  expect(hwQueue(vmm, viommu, 0)).toBe('EEXIST');
  expect(vmm.unmap(fd, vmm.ioasId, 0x10000, page)).toBe('EBUSY');
  expect(vmm.destroy(fd, first)).toBe('EBUSY');
  expect([second, first].map((id) => vmm.destroy(fd, id))).toEqual([null, null]);
  expect(vmm.unmap(fd, vmm.ioasId, 0x10000, page)).toBe(4096n);
  expect(vmm.ledger().pinned).toBe(before.pinned);
  expect(vmm.state.queues.size).toBe(0);
});

test.each<[object, ErrnoName]>([
  [{ type: 0 }, 'EOPNOTSUPP'], [{ flags: 1 }, 'EOPNOTSUPP'], [{ length: 0n }, 'EINVAL'], [{ nestingParentIova: (1n << 64n) - 1n }, 'EOVERFLOW'],
  [{ viommuId: 99 }, 'ENOENT'], [{ type: known + 1 }, 'EOPNOTSUPP'], [{ length: 0x2000n }, 'ENOENT'], [{ index: 2 }, 'EINVAL'], [{ argument: 'read-only' }, 'EFAULT'],
])('a hardware queue with %o is %s and leaves nothing behind', (change, errno) => {
  const { vmm, fd, viommu } = setUp();
  vmm.map(fd, vmm.ioasId, 0x10000, vmm.process.memory(page));
  const before = vmm.ledger();
  expect(hwQueue(vmm, viommu, 0, change)).toBe(errno);
  expect(vmm.ledger()).toEqual(before);
  expect(hwQueue(vmm, viommu, 0)).toBe(5);
});

test('closing the context takes all of it', () => {
  const { vmm, fd, viommu } = setUp();
  vmm.map(fd, vmm.ioasId, 0x10000, vmm.process.memory(page));
  hwQueue(vmm, viommu, 0);
  hwQueue(vmm, viommu, 1);
  const queue = eventQueue(vmm, viommu, 4) as { id: number; fd: number };
  reportEvent(vmm.kernel, viommuRef(vmm, viommu), 3, [1]);
  vmm.vdevice(viommu, 5n);
  for (const closed of [vmm.vfio, queue.fd, fd]) vmm.close(closed);
  expect(vmm.ledger().pinned).toBe(0);
  expect(vmm.state).toMatchObject({ nested: 0, viommus: 0 });
});
