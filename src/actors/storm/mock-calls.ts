/**
 * Random calls on the mock IOMMU of the kernel's selftest: mock devices, nested HWPTs, vIOMMUs and what is in them, page requests, events,
 * dirty tracking, beside those that need no device. No PASIDs: the selftest's own driver leaks those that a device has when it goes.
 */
import {
  accessMove, accessPages, accessRw, changeProcess, close, copy, createAccess, destroy, faultQueueAlloc, ioasAlloc, map, mapAnywhere, option, passing, unmap,
} from './common-calls.ts';
import { lastId, Shelf, type StormCall } from './storm.ts';

const page = 4096;
const Flag = { NEST_PARENT: 1, DIRTY: 2, FAULT_ID_VALID: 4 } as const;
const viommuType = 0xdeadbeef;
const eventType = 0xbeefbeef;
const hwptData = 0xdead;
const NO_PASID = 0xffffffff;

const mockDomain: StormCall = (storm) => {
  const id = storm.id(Shelf.IOAS);
  const arg = { id, deviceFlags: 0, outStdevId: 0, outHwptId: 0, outIdevId: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.test('IOMMU_TEST_MOCK_DOMAIN_FLAGS', arg, { target: id }) !== null) return;
  if (Math.max(arg.outStdevId, arg.outIdevId) > lastId) storm.destroy(arg.outStdevId);
  storm.note(Shelf.MOCK_DEVICE, arg.outStdevId);
  storm.note(Shelf.DEVICE, arg.outIdevId);
};

const replace: StormCall = (storm) => {
  const [id, ptId] = [storm.id(Shelf.MOCK_DEVICE), storm.id(storm.oneOf([Shelf.IOAS, Shelf.HWPT]))];
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.test('IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id, ptId }, { other: id }) === null) storm.vm.counters.add('replaces', 1);
};

const hwptAlloc: StormCall = (storm) => {
  const [devId, faultId] = [storm.id(Shelf.DEVICE), storm.id(Shelf.FAULT_QUEUE)];
  const ptId = storm.id(storm.oneOf([Shelf.IOAS, Shelf.IOAS, Shelf.HWPT, Shelf.VIOMMU]));
  const flags = storm.oneOf([0, Flag.NEST_PARENT, Flag.NEST_PARENT, Flag.DIRTY, Flag.FAULT_ID_VALID]);
  const data = storm.oneIn(2) ? { dataType: hwptData, dataLength: 4, data: new Uint8Array(4) } : {};
  const arg = { flags, devId, ptId, faultId, ...data, outHwptId: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  // The fault queue may be what is not there.
  const target = flags === Flag.FAULT_ID_VALID ? 0 : devId;
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_HWPT_ALLOC', arg, { target, other: ptId }) === null) storm.keepId(Shelf.HWPT, arg.outHwptId);
};

const viommuAlloc: StormCall = (storm) => {
  const [devId, hwptId] = [storm.id(Shelf.DEVICE), storm.id(Shelf.HWPT)];
  const arg = { flags: 0, type: viommuType, devId, hwptId, outViommuId: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_VIOMMU_ALLOC', arg, { target: devId, other: hwptId }) === null) storm.keepId(Shelf.VIOMMU, arg.outViommuId);
};

const vdeviceAlloc: StormCall = (storm) => {
  const [viommuId, devId] = [storm.id(Shelf.VIOMMU), storm.id(Shelf.DEVICE)];
  const arg = { viommuId, devId, virtId: BigInt(1 + storm.vm.random(2)), outVdeviceId: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_VDEVICE_ALLOC', arg, { target: viommuId, other: devId }) === null) storm.keepId(null, arg.outVdeviceId);
};

const eventQueueAlloc: StormCall = (storm) => {
  const viommuId = storm.id(Shelf.VIOMMU);
  const arg = { flags: 0, viommuId, type: eventType, depth: 1 + storm.vm.random(2), outEventQueueId: 0, outEventQueueFd: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_VEVENTQ_ALLOC', arg, { target: viommuId }) !== null) return;
  storm.keepQueue(null, arg.outEventQueueId, arg.outEventQueueFd);
};

const hwQueueAlloc: StormCall = (storm) => {
  const [viommuId, iova] = [storm.id(Shelf.VIOMMU), storm.iova()];
  const arg = { flags: 0, viommuId, type: viommuType, index: storm.vm.random(2), nestingParentIova: BigInt(iova), length: BigInt(page), outHwQueueId: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_HW_QUEUE_ALLOC', arg, { target: viommuId }) === null) storm.keepId(null, arg.outHwQueueId);
};

const invalidate: StormCall = (storm) => {
  const hwptId = storm.id(storm.oneOf([Shelf.HWPT, Shelf.VIOMMU]));
  const entryLength = storm.oneOf([8, 12]);
  const arg = { hwptId, data: new Uint8Array(entryLength), dataType: viommuType, entryLength, entryCount: 1 };
  storm.ioctl(storm.stage.iommufd, 'IOMMU_HWPT_INVALIDATE', arg, { target: hwptId });
};

const dirty: StormCall = (storm) => {
  const { iommufd } = storm.stage;
  const [id, iova] = [storm.id(Shelf.HWPT), storm.iova()];
  const range = { iova: BigInt(iova), length: BigInt(2 * page), pageSize: BigInt(page) };
  storm.ioctl(iommufd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', { flags: storm.oneOf([0, 1]), hwptId: id }, { target: id });
  storm.test('IOMMU_TEST_DIRTY', { id, ...range, bitmap: Uint8Array.of(3), outNrDirty: 0 }, { target: id });
  storm.ioctl(iommufd, 'IOMMU_HWPT_GET_DIRTY_BITMAP', { hwptId: id, flags: storm.oneOf([0, 1]), ...range, bitmap: new Uint8Array(8) }, { target: id });
};

const pageRequest: StormCall = (storm) => {
  const deviceId = storm.id(Shelf.DEVICE);
  if (storm.oneIn(4)) storm.refuseOne();
  storm.test('IOMMU_TEST_TRIGGER_IOPF', { deviceId, pasid: NO_PASID, group: 1, permissions: 1, address: 0x5000n }, { target: deviceId });
};

const event: StormCall = (storm) => {
  const deviceId = storm.id(Shelf.DEVICE);
  storm.test('IOMMU_TEST_TRIGGER_VEVENT', { deviceId }, { target: deviceId });
};

const readQueue: StormCall = (storm) => storm.read(storm.fd(Shelf.QUEUE_FD), storm.oneOf([40, 80, 16]));

/** An answer to a page request: a cookie, and that the address is invalid. */
const writeQueue: StormCall = (storm) => storm.write(storm.fd(Shelf.QUEUE_FD), Uint8Array.of(1 + storm.vm.random(2), 0, 0, 0, 1, 0, 0, 0));

/** What is there more than once is drawn more often. */
export const mockCalls: readonly StormCall[] = [
  ioasAlloc, ioasAlloc, destroy, destroy, map, map, mapAnywhere, unmap, unmap, copy, createAccess, accessPages, accessRw, accessMove, option, changeProcess, passing,
  mockDomain, mockDomain, mockDomain, replace, replace, hwptAlloc, hwptAlloc, hwptAlloc, viommuAlloc, viommuAlloc, vdeviceAlloc, vdeviceAlloc, eventQueueAlloc, hwQueueAlloc,
  invalidate, dirty, faultQueueAlloc, pageRequest, event, readQueue, writeQueue, close, close, close, close,
];
