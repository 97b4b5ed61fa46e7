/** Random calls on VT-d: address spaces and mappings, domains, devices and their PASIDs, accesses, the type 1 commands, files. */
import type { StormCall } from './storm.ts';

const page = 4096;
const PASID = 8;
/** Not pasid 0, which 7.2 takes for the RID (K5). */
const pasids = [1, 2];

const ioasAlloc: StormCall = (storm) => {
  const arg = { flags: storm.oneIn(16) ? 1 : 0, outIoasId: 0 };
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_ALLOC', arg, {}) === null) storm.keepId(arg.outIoasId);
};

const destroy: StormCall = (storm) => {
  const id = storm.id();
  storm.ioctl(storm.stage.iommufd, 'IOMMU_DESTROY', { id }, { target: id });
};

const map: StormCall = (storm) => {
  const [ioasId, iova, lengthBytes] = [storm.id(), storm.iova(), storm.lengthBytes()];
  const flags = storm.oneOf([7, 7, 5, 1]);
  const arg = { flags, ioasId, userVa: storm.va(), length: BigInt(lengthBytes), iova: BigInt(iova) };
  if (storm.oneIn(6)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_MAP', arg, { target: ioasId, iova, lengthBytes }) === null) storm.vm.counters.add('maps', 1);
};

const mapAnywhere: StormCall = (storm) => {
  const [ioasId, lengthBytes] = [storm.id(), storm.lengthBytes()];
  const arg = { flags: 6, ioasId, userVa: storm.va(), length: BigInt(lengthBytes), iova: 0n };
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_MAP', arg, { target: ioasId }) !== null) return;
  storm.vm.counters.add('maps', 1);
  // What lies elsewhere than in the few pages that others unmap goes again.
  const iova = Number(arg.iova);
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_UNMAP', { ioasId, iova: arg.iova, length: BigInt(lengthBytes) }, { target: ioasId, iova, lengthBytes });
};

const unmap: StormCall = (storm) => {
  const [ioasId, iova, lengthBytes] = [storm.id(), storm.iova(), storm.oneIn(3) ? 8 * page : storm.lengthBytes()];
  const all = storm.oneIn(8);
  const arg = all ? { ioasId, iova: 0n, length: 2n ** 64n - 1n } : { ioasId, iova: BigInt(iova), length: BigInt(lengthBytes) };
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_UNMAP', arg, { target: ioasId, iova: all ? 0 : iova, lengthBytes: all ? 0 : lengthBytes }) === null) {
    storm.vm.counters.add('unmaps', 1);
  }
};

const copy: StormCall = (storm) => {
  const [dstIoasId, srcIoasId, iova, srcIova, lengthBytes] = [storm.id(), storm.id(), storm.iova(), storm.iova(), storm.lengthBytes()];
  const arg = { flags: storm.oneOf([7, 5]), dstIoasId, srcIoasId, length: BigInt(lengthBytes), dstIova: BigInt(iova), srcIova: BigInt(srcIova) };
  if (storm.oneIn(6)) storm.refuseOne();
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_COPY', arg, { target: dstIoasId, other: srcIoasId, iova, lengthBytes });
};

const allowAndAsk: StormCall = (storm) => {
  const ioasId = storm.id();
  const ranges: [bigint, bigint][] = storm.oneIn(2) ? [] : [[BigInt(storm.iova()), 0x1fff_ffffn]];
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId, ranges }, { target: ioasId });
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_IOVA_RANGES', { ioasId, numIovas: 8, ranges: [], outIovaAlignment: 0n }, { target: ioasId });
};

const hwptAlloc: StormCall = (storm) => {
  const [devId, ptId] = [storm.id(), storm.id()];
  const arg = { flags: storm.oneOf([0, PASID]), devId, ptId, outHwptId: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_HWPT_ALLOC', arg, { target: devId, other: ptId }) === null) storm.keepId(arg.outHwptId);
};

const hwInfo: StormCall = (storm) => {
  const devId = storm.id();
  const arg = { flags: 0, devId, dataLength: 16, dataType: 0, outMaxPasidLog2: 0, outCapabilities: 0n };
  storm.ioctl(storm.stage.iommufd, 'IOMMU_GET_HW_INFO', arg, { target: devId });
};

const attach: StormCall = (storm) => {
  const [fd, ptId] = [storm.fd(), storm.id()];
  const errno = storm.ioctl(fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId }, { target: ptId, other: fd });
  if (errno === null) storm.vm.counters.add('replaces', 1);
};

const attachPasid: StormCall = (storm) => {
  const [fd, ptId] = [storm.fd(), storm.id()];
  storm.ioctl(fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 20, flags: 1, ptId, pasid: storm.oneOf(pasids) }, { target: ptId, other: fd });
};

const detach: StormCall = (storm) => {
  const fd = storm.fd();
  const arg = storm.oneIn(2) ? { argsz: 12, flags: 0 } : { argsz: 16, flags: 1, pasid: storm.oneOf(pasids) };
  storm.ioctl(fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', arg, { other: fd });
};

const openAndBind: StormCall = (storm) => {
  const fd = storm.open(`/dev/vfio/devices/vfio${storm.oneOf(storm.stage.vfio)}`);
  if (fd < 0) return;
  if (storm.oneIn(4)) storm.refuseOne();
  const arg = { argsz: 24, flags: 0, iommufd: storm.stage.iommufd, outDevid: 0 };
  const errno = storm.ioctl(fd, 'VFIO_DEVICE_BIND_IOMMUFD', arg, { other: fd });
  if (errno !== null) storm.close(fd);
  else storm.keepFd(fd);
};

const close: StormCall = (storm) => storm.close(storm.fd());

const faultQueueAlloc: StormCall = (storm) => {
  const arg = { flags: 0, outFaultId: 0, outFaultFd: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_FAULT_QUEUE_ALLOC', arg, {}) !== null) return;
  storm.keepFd(arg.outFaultFd);
  storm.keepId(arg.outFaultId);
};

const createAccess: StormCall = (storm) => {
  const id = storm.id();
  const arg = { id, flags: storm.oneOf([1, 1, 0]), outAccessFd: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.test('IOMMU_TEST_CREATE_ACCESS', arg, { target: id }) === null) storm.keepFd(arg.outAccessFd);
};

const accessPages: StormCall = (storm) => {
  const [fd, iova, lengthBytes] = [storm.fd(), storm.iova(), storm.lengthBytes()];
  const arg = { fd, flags: storm.oneOf([0, 1]), iova: BigInt(iova), length: BigInt(lengthBytes), userVa: 0n, outAccessPagesId: 0 };
  if (storm.oneIn(6)) storm.refuseOne();
  const errno = storm.test('IOMMU_TEST_ACCESS_PAGES', arg, { other: fd, iova, lengthBytes });
  const { outAccessPagesId: accessPagesId } = arg;
  if (errno === null && storm.oneIn(2)) storm.test('IOMMU_TEST_DESTROY_ACCESS_PAGES', { fd, accessPagesId }, { other: fd });
};

const accessRw: StormCall = (storm) => {
  const [fd, iova, lengthBytes] = [storm.fd(), storm.iova() + 64, storm.oneOf([64, 2 * page])];
  const arg = { fd, flags: storm.oneOf([0, 1]), iova: BigInt(iova), length: BigInt(lengthBytes), buffer: new Uint8Array(lengthBytes) };
  storm.test('IOMMU_TEST_ACCESS_RW', arg, { other: fd, iova, lengthBytes });
};

const accessMove: StormCall = (storm) => {
  const [fd, ioasId] = [storm.fd(), storm.id()];
  storm.test('IOMMU_TEST_ACCESS_REPLACE_IOAS', { fd, ioasId }, { target: ioasId, other: fd });
};

const option: StormCall = (storm) => {
  const objectId = storm.id();
  storm.ioctl(storm.stage.iommufd, 'IOMMU_OPTION', { optionId: 1, op: storm.oneOf([0, 1]), objectId, val64: storm.oneOf([0n, 1n]) }, { target: objectId });
};

const changeProcess: StormCall = (storm) => {
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_CHANGE_PROCESS', {}, {});
};

const typeOne: StormCall = (storm) => {
  const { iommufd } = storm.stage;
  const [ioasId, iova, lengthBytes] = [storm.id(), storm.iova(), storm.lengthBytes()];
  const op = storm.oneOf([0, 1, 1, 2]);
  storm.ioctl(iommufd, 'IOMMU_VFIO_IOAS', { op, ioasId }, { target: op === 1 ? ioasId : 0 });
  if (storm.oneIn(3)) storm.ioctl(iommufd, 'VFIO_SET_IOMMU', { arg: storm.oneOf([1, 3]) }, {});
  if (storm.oneIn(2)) storm.ioctl(iommufd, 'VFIO_IOMMU_MAP_DMA', { argsz: 32, flags: 3, vaddr: storm.va(), iova: BigInt(iova), length: BigInt(lengthBytes) }, {});
  else storm.ioctl(iommufd, 'VFIO_IOMMU_UNMAP_DMA', { argsz: 24, flags: 0, iova: BigInt(iova), length: BigInt(lengthBytes) }, {});
};

/** Memory that only a pin keeps. */
const passing: StormCall = (storm) => {
  const [ioasId, iova] = [storm.id(), storm.iova()];
  const userVa = storm.vm.mmap(page);
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_MAP', { flags: 7, ioasId, userVa, length: BigInt(page), iova: BigInt(iova) }, { target: ioasId, iova, lengthBytes: page });
  storm.vm.munmap(userVa, page);
};

/** What is there more than once is drawn more often. */
export const vtdCalls: readonly StormCall[] = [
  ioasAlloc, destroy, destroy, map, map, map, mapAnywhere, unmap, unmap, copy, allowAndAsk, hwptAlloc, hwInfo, attach, attach, attach, attachPasid, detach,
  openAndBind, close, faultQueueAlloc, createAccess, accessPages, accessPages, accessRw, accessMove, option, changeProcess, typeOne, passing,
];

