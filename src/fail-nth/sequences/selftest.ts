/** What only the mock IOMMU of the kernel's selftest has: accesses that pin, nested HWPTs, vIOMMUs and all that is in them, dirty tracking. */
import { errnoOf } from '../../kernel/errno.ts';
import { fixed, page, type Caller } from '../caller.ts';
import { topic } from '../sequence.ts';

const iova = 0x1000_0000;
const NEST_PARENT = 1;
const DIRTY = 2;
const FAULT_ID_VALID = 4;
const PASID = 8;
const nestedData = { dataType: 0xdead, dataLength: 4, data: new Uint8Array(4) };
const viommuType = 0xdeadbeef;
const eventType = 0xbeefbeef;
const pasids = 4;

interface Stage {
  readonly fd: number;
  readonly ioas: number;
  readonly va: bigint;
  readonly device: ReturnType<Caller['mockDevice']>;
}

/** A mock device on an IOAS with a mapping of two pages. */
function stage(caller: Caller, deviceFlags: number = 0): Stage {
  const fd = caller.open();
  const ioas = caller.ioas(fd);
  const va = caller.memory(8 * page);
  caller.must(caller.map(fd, ioas, iova, va, 2 * page));
  return { fd, ioas, va, device: caller.mockDevice(fd, ioas, deviceFlags) };
}

function withParent(caller: Caller): Stage & { parent: number } {
  const made = stage(caller);
  return { ...made, parent: caller.hwptAlloc(made.fd, { flags: NEST_PARENT, devId: made.device.devId, ptId: made.ioas }) };
}

function withViommu(caller: Caller): ReturnType<typeof withParent> & { viommu: number } {
  const made = withParent(caller);
  const arg = { flags: 0, type: viommuType, devId: made.device.devId, hwptId: made.parent, outViommuId: 0 };
  caller.must(caller.ioctl(made.fd, 'IOMMU_VIOMMU_ALLOC', arg));
  return { ...made, viommu: arg.outViommuId };
}

/** The device is attached through the vIOMMU, and has a number there. */
function inside(caller: Caller, flags: number = 0, faultId: number = 0): ReturnType<typeof withViommu> & { nested: number } {
  const made = withViommu(caller);
  caller.must(caller.ioctl(made.fd, 'IOMMU_VDEVICE_ALLOC', { viommuId: made.viommu, devId: made.device.devId, virtId: 9n, outVdeviceId: 0 }));
  const nested = caller.hwptAlloc(made.fd, { flags, faultId, devId: made.device.devId, ptId: made.viommu, ...nestedData });
  caller.must(caller.test(made.fd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: made.device.id, ptId: nested }));
  return { ...made, nested };
}

function eventQueue(caller: Caller, fd: number, viommuId: number, depth: number): number {
  const arg = { flags: 0, viommuId, type: eventType, depth, outEventQueueId: 0, outEventQueueFd: 0 };
  caller.must(caller.ioctl(fd, 'IOMMU_VEVENTQ_ALLOC', arg));
  return arg.outEventQueueFd;
}

function faultQueue(caller: Caller, fd: number): { id: number; fd: number } {
  const arg = { flags: 0, outFaultId: 0, outFaultFd: 0 };
  caller.must(caller.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', arg));
  return { id: arg.outFaultId, fd: arg.outFaultFd };
}

/** A device whose page requests go to a queue. */
function requesting(caller: Caller): Stage & { queue: number; request: () => ReturnType<Caller['test']> } {
  const made = stage(caller);
  const queue = faultQueue(caller, made.fd);
  const hwpt = caller.hwptAlloc(made.fd, { flags: FAULT_ID_VALID, faultId: queue.id, devId: made.device.devId, ptId: made.ioas });
  caller.must(caller.test(made.fd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: made.device.id, ptId: hwpt }));
  const request = { deviceId: made.device.devId, pasid: 0xffffffff, group: 1, permissions: 1, address: 0x5000n };
  return { ...made, queue: queue.fd, request: () => caller.test(made.fd, 'IOMMU_TEST_TRIGGER_IOPF', request) };
}

function access(caller: Caller, fd: number, ioas: number): number {
  const arg = { id: ioas, flags: 1, outAccessFd: 0 };
  caller.must(caller.test(fd, 'IOMMU_TEST_CREATE_ACCESS', arg));
  return arg.outAccessFd;
}

function tracked(caller: Caller): Stage & { hwpt: number } {
  const made = stage(caller);
  return { ...made, hwpt: caller.hwptAlloc(made.fd, { flags: DIRTY, devId: made.device.devId, ptId: made.ioas }) };
}

export default topic('mock', {
  'MOCK_DOMAIN: bind and attach of a mock device': (caller) => {
    const { fd, ioas } = stage(caller);
    return () => caller.test(fd, 'IOMMU_TEST_MOCK_DOMAIN', { id: ioas, outStdevId: 0, outHwptId: 0, outIdevId: 0 });
  },
  'MOCK_DOMAIN on an empty IOAS': (caller) => {
    const { fd } = stage(caller);
    const ioas = caller.ioas(fd);
    return () => caller.test(fd, 'IOMMU_TEST_MOCK_DOMAIN', { id: ioas, outStdevId: 0, outHwptId: 0, outIdevId: 0 });
  },
  'replace of a mock device': (caller) => {
    const { fd, device, va } = stage(caller);
    const other = caller.ioas(fd);
    caller.must(caller.map(fd, other, iova, va, page));
    return () => caller.test(fd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: device.id, ptId: other });
  },
  'MAP of half pages': {
    answersLast: true,
    begin(caller) {
      const { fd, ioas, va } = stage(caller);
      return () => caller.map(fd, ioas, iova + 0x10800, va + 0x800n, page);
    },
  },
  'CREATE_ACCESS': (caller) => {
    const { fd, ioas } = stage(caller);
    return () => caller.test(fd, 'IOMMU_TEST_CREATE_ACCESS', { id: ioas, flags: 1, outAccessFd: 0 });
  },
  'an access pins mapped pages': (caller) => {
    const { fd, ioas } = stage(caller);
    const arg = { fd: access(caller, fd, ioas), flags: 1, iova: BigInt(iova), length: BigInt(2 * page), userVa: 0n, outAccessPagesId: 0 };
    return () => caller.test(fd, 'IOMMU_TEST_ACCESS_PAGES', { ...arg });
  },
  'an access pins pages of two mappings that no domain has': (caller) => {
    const fd = caller.open();
    const ioas = caller.ioas(fd);
    const va = caller.memory(4 * page);
    for (const part of [0, 2]) caller.must(caller.map(fd, ioas, iova + part * page, va + BigInt(part * page), 2 * page));
    const arg = { fd: access(caller, fd, ioas), flags: 1, iova: BigInt(iova), length: BigInt(4 * page), userVa: 0n, outAccessPagesId: 0 };
    return () => caller.test(fd, 'IOMMU_TEST_ACCESS_PAGES', { ...arg });
  },
  'an access copies from several pages': (caller) => {
    const fd = caller.open();
    const ioas = caller.ioas(fd);
    caller.must(caller.map(fd, ioas, iova, caller.memory(4 * page), 4 * page));
    const arg = { fd: access(caller, fd, ioas), flags: 0, iova: BigInt(iova + 0x800), length: BigInt(2 * page) };
    return () => caller.test(fd, 'IOMMU_TEST_ACCESS_RW', { ...arg, buffer: new Uint8Array(2 * page) });
  },
  'an access moves to another IOAS': (caller) => {
    const { fd, ioas } = stage(caller);
    const arg = { fd: access(caller, fd, ioas), ioasId: caller.ioas(fd) };
    return () => caller.test(fd, 'IOMMU_TEST_ACCESS_REPLACE_IOAS', arg);
  },
  'UNMAP of pages that an access has pinned': {
    answersLast: true,
    begin(caller) {
      const { fd, ioas } = stage(caller);
      const arg = { fd: access(caller, fd, ioas), flags: 1, iova: BigInt(iova), length: BigInt(page), userVa: 0n, outAccessPagesId: 0 };
      caller.must(caller.test(fd, 'IOMMU_TEST_ACCESS_PAGES', arg));
      return () => caller.ioctl(fd, 'IOMMU_IOAS_UNMAP', { ioasId: ioas, iova: BigInt(iova), length: BigInt(2 * page) });
    },
  },
  'ADD_RESERVED': (caller) => {
    const { fd, ioas } = stage(caller);
    return () => caller.test(fd, 'IOMMU_TEST_ADD_RESERVED', { id: ioas, start: 0x2000_0000n, length: 0x1000n });
  },
  'HWPT_ALLOC from a user\'s data': (caller) => {
    const { fd, ioas, device } = stage(caller);
    const arg = { flags: 0, devId: device.devId, ptId: ioas, dataType: 0xdead, dataLength: 8, data: new Uint8Array(8), outHwptId: 0 };
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { ...arg });
  },
  'HWPT_ALLOC, nested on a parent': (caller) => {
    const { fd, device, parent } = withParent(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 0, devId: device.devId, ptId: parent, ...nestedData, outHwptId: 0 });
  },
  'HWPT_ALLOC, nested with a fault queue': (caller) => {
    const { fd, device, parent } = withParent(caller);
    const faultId = faultQueue(caller, fd).id;
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: FAULT_ID_VALID, faultId, devId: device.devId, ptId: parent, ...nestedData, outHwptId: 0 });
  },
  'HWPT_ALLOC, nested through a vIOMMU': (caller) => {
    const { fd, device, viommu } = withViommu(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 0, devId: device.devId, ptId: viommu, ...nestedData, outHwptId: 0 });
  },
  'replace of a mock device by a nested HWPT': (caller) => {
    const { fd, device, parent } = withParent(caller);
    const nested = caller.hwptAlloc(fd, { devId: device.devId, ptId: parent, ...nestedData });
    return () => caller.test(fd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: device.id, ptId: nested });
  },
  'HWPT_INVALIDATE of a nested HWPT': {
    answersLast: true,
    begin(caller) {
      const { fd, device, parent } = withParent(caller);
      const hwptId = caller.hwptAlloc(fd, { devId: device.devId, ptId: parent, ...nestedData });
      return () => caller.ioctl(fd, 'IOMMU_HWPT_INVALIDATE', { hwptId, data: new Uint8Array(8), dataType: 0xdeadbeef, entryLength: 8, entryCount: 1 });
    },
  },
  'VIOMMU_ALLOC': (caller) => {
    const { fd, device, parent } = withParent(caller);
    return () => caller.ioctl(fd, 'IOMMU_VIOMMU_ALLOC', { flags: 0, type: viommuType, devId: device.devId, hwptId: parent, outViommuId: 0, dataLength: 24, data: new Uint8Array(24) });
  },
  'VDEVICE_ALLOC': (caller) => {
    const { fd, device, viommu } = withViommu(caller);
    return () => caller.ioctl(fd, 'IOMMU_VDEVICE_ALLOC', { viommuId: viommu, devId: device.devId, virtId: 9n, outVdeviceId: 0 });
  },
  'VEVENTQ_ALLOC': (caller) => {
    const { fd, viommu } = withViommu(caller);
    const arg = { flags: 0, viommuId: viommu, type: eventType, depth: 2, outEventQueueId: 0, outEventQueueFd: 0 };
    return () => caller.ioctl(fd, 'IOMMU_VEVENTQ_ALLOC', { ...arg });
  },
  'an event of a vIOMMU': {
    goesOn: true,
    begin(caller) {
      const { fd, device, viommu } = inside(caller);
      eventQueue(caller, fd, viommu, 2);
      return () => caller.test(fd, 'IOMMU_TEST_TRIGGER_VEVENT', { deviceId: device.devId });
    },
  },
  'read of events': (caller) => {
    const { fd, device, viommu } = inside(caller);
    const queue = eventQueue(caller, fd, viommu, 2);
    for (let i = 0; i < 1; i++) caller.must(caller.test(fd, 'IOMMU_TEST_TRIGGER_VEVENT', { deviceId: device.devId }));
    return () => errnoOf(() => caller.read(queue, 64));
  },
  'HW_QUEUE_ALLOC': (caller) => {
    const { fd, viommu } = withViommu(caller);
    const arg = { flags: 0, viommuId: viommu, type: viommuType, index: 0, nestingParentIova: BigInt(iova), length: BigInt(page), outHwQueueId: 0 };
    return () => caller.ioctl(fd, 'IOMMU_HW_QUEUE_ALLOC', { ...arg });
  },
  'HW_QUEUE_ALLOC of the second queue': (caller) => {
    const { fd, viommu } = withViommu(caller);
    const arg = { flags: 0, viommuId: viommu, type: viommuType, index: 0, nestingParentIova: BigInt(iova), length: BigInt(page), outHwQueueId: 0 };
    caller.must(caller.ioctl(fd, 'IOMMU_HW_QUEUE_ALLOC', { ...arg }));
    return () => caller.ioctl(fd, 'IOMMU_HW_QUEUE_ALLOC', { ...arg, index: 1 });
  },
  'HW_QUEUE_ALLOC across two mappings': (caller) => {
    const { fd, ioas, va, viommu } = withViommu(caller);
    caller.must(caller.map(fd, ioas, iova + 2 * page, va + BigInt(2 * page), page));
    const arg = { flags: 0, viommuId: viommu, type: viommuType, index: 0, nestingParentIova: BigInt(iova + page), length: BigInt(2 * page), outHwQueueId: 0 };
    return () => caller.ioctl(fd, 'IOMMU_HW_QUEUE_ALLOC', { ...arg });
  },
  'a page request': {
    goesOn: true,
    begin: (caller) => requesting(caller).request,
  },
  'read of a page request': (caller) => {
    const { queue, request } = requesting(caller);
    caller.must(request());
    return () => errnoOf(() => caller.read(queue, 40));
  },
  'GET_DIRTY_BITMAP': (caller) => {
    const { fd, hwpt } = tracked(caller);
    caller.must(caller.ioctl(fd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', { flags: 1, hwptId: hwpt }));
    const arg = { hwptId: hwpt, flags: 0, iova: BigInt(iova), length: BigInt(2 * page), pageSize: BigInt(page) };
    return () => caller.ioctl(fd, 'IOMMU_HWPT_GET_DIRTY_BITMAP', { ...arg, bitmap: new Uint8Array(8) });
  },
  'SET_DIRTY_TRACKING': (caller) => {
    const { fd, hwpt } = tracked(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', { flags: 1, hwptId: hwpt });
  },
  'OPTION: large pages': {
    answersLast: true,
    begin(caller) {
      const { fd } = stage(caller);
      const ioas = caller.ioas(fd);
      return () => caller.ioctl(fd, 'IOMMU_OPTION', { optionId: 1, op: 0, objectId: ioas, val64: 0n });
    },
  },
  'OPTION: the mode of accounting': (caller) => {
    const { fd } = stage(caller);
    return () => caller.ioctl(fd, 'IOMMU_OPTION', { optionId: 0, op: 1, objectId: 0, val64: 0n });
  },
  'CHANGE_PROCESS of what is not mapped': (caller) => {
    const fd = caller.open();
    caller.ioas(fd);
    return () => caller.ioctl(fd, 'IOMMU_IOAS_CHANGE_PROCESS', {});
  },
  'attach of a PASID of a mock device': (caller) => {
    const { fd, ioas, device } = stage(caller, pasids);
    const hwpt = caller.hwptAlloc(fd, { flags: PASID, devId: device.devId, ptId: ioas });
    caller.must(caller.test(fd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: device.id, ptId: hwpt }));
    caller.atExit(() => caller.test(fd, 'IOMMU_TEST_PASID_DETACH', { id: device.id, pasid: 100 }));
    return () => caller.test(fd, 'IOMMU_TEST_PASID_ATTACH', { id: device.id, pasid: 100, ptId: hwpt });
  },
  'replace of a PASID of a mock device': (caller) => {
    const { fd, ioas, device } = stage(caller, pasids);
    const alloc = (): number => caller.hwptAlloc(fd, { flags: PASID, devId: device.devId, ptId: ioas });
    const [first, second] = [alloc(), alloc()];
    caller.must(caller.test(fd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: device.id, ptId: first }));
    caller.must(caller.test(fd, 'IOMMU_TEST_PASID_ATTACH', { id: device.id, pasid: 100, ptId: first }));
    caller.atExit(() => caller.test(fd, 'IOMMU_TEST_PASID_DETACH', { id: device.id, pasid: 100 }));
    return () => caller.test(fd, 'IOMMU_TEST_PASID_REPLACE', { id: device.id, pasid: 100, ptId: second });
  },
  'VFIO_IOAS GET': (caller) => {
    const { fd, ioas } = stage(caller);
    caller.must(caller.ioctl(fd, 'IOMMU_VFIO_IOAS', { op: 1, ioasId: ioas }));
    return () => caller.ioctl(fd, 'IOMMU_VFIO_IOAS', { op: 0, ioasId: 0 });
  },
  'DESTROY of everything inside a vIOMMU': (caller) => {
    const { fd, nested, device, ioas } = inside(caller);
    caller.must(caller.test(fd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: device.id, ptId: ioas }));
    return () => caller.ioctl(fd, 'IOMMU_DESTROY', { id: nested });
  },
  'MAP of a range with half of it pinned by an access': {
    answersLast: true,
    begin(caller) {
      const { fd, ioas, va } = stage(caller);
      const arg = { fd: access(caller, fd, ioas), flags: 1, iova: BigInt(iova), length: BigInt(page), userVa: 0n, outAccessPagesId: 0 };
      caller.must(caller.test(fd, 'IOMMU_TEST_ACCESS_PAGES', arg));
      return () => caller.map(fd, ioas, iova + 8 * page, va, 4 * page, fixed);
    },
  },
});
