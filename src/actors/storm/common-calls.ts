/** Random calls that need no device: address spaces and mappings, accesses, queues, files. */
import { lastId, Shelf, type StormCall } from './storm.ts';

const page = 4096;

export const ioasAlloc: StormCall = (storm) => {
  const arg = { flags: storm.oneIn(16) ? 1 : 0, outIoasId: 0 };
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_ALLOC', arg, {}) === null) storm.keepId(Shelf.IOAS, arg.outIoasId);
};

/** Any object, also what a thread could not give back at once. */
export const destroy: StormCall = (storm) => storm.destroy(1 + storm.vm.random(lastId + 8));

export const map: StormCall = (storm) => {
  const [ioasId, iova, lengthBytes] = [storm.id(Shelf.IOAS), storm.iova(), storm.lengthBytes()];
  const flags = storm.oneOf([7, 7, 5, 1]);
  const arg = { flags, ioasId, userVa: storm.va(), length: BigInt(lengthBytes), iova: BigInt(iova) };
  if (storm.oneIn(6)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_MAP', arg, { target: ioasId, iova, lengthBytes }) === null) storm.vm.counters.add('maps', 1);
};

export const mapAnywhere: StormCall = (storm) => {
  const [ioasId, lengthBytes] = [storm.id(Shelf.IOAS), storm.lengthBytes()];
  const arg = { flags: 6, ioasId, userVa: storm.va(), length: BigInt(lengthBytes), iova: 0n };
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_MAP', arg, { target: ioasId }) !== null) return;
  storm.vm.counters.add('maps', 1);
  // What lies elsewhere than in the few pages that others unmap goes again.
  const iova = Number(arg.iova);
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_UNMAP', { ioasId, iova: arg.iova, length: BigInt(lengthBytes) }, { target: ioasId, iova, lengthBytes });
};

export const unmap: StormCall = (storm) => {
  const [ioasId, iova, lengthBytes] = [storm.id(Shelf.IOAS), storm.iova(), storm.oneIn(3) ? 8 * page : storm.lengthBytes()];
  const all = storm.oneIn(8);
  const arg = all ? { ioasId, iova: 0n, length: 2n ** 64n - 1n } : { ioasId, iova: BigInt(iova), length: BigInt(lengthBytes) };
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_UNMAP', arg, { target: ioasId, iova: all ? 0 : iova, lengthBytes: all ? 0 : lengthBytes }) === null) {
    storm.vm.counters.add('unmaps', 1);
  }
};

export const copy: StormCall = (storm) => {
  const [dstIoasId, srcIoasId, iova, srcIova, lengthBytes] = [storm.id(Shelf.IOAS), storm.id(Shelf.IOAS), storm.iova(), storm.iova(), storm.lengthBytes()];
  const arg = { flags: storm.oneOf([7, 5]), dstIoasId, srcIoasId, length: BigInt(lengthBytes), dstIova: BigInt(iova), srcIova: BigInt(srcIova) };
  if (storm.oneIn(6)) storm.refuseOne();
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_COPY', arg, { target: dstIoasId, other: srcIoasId, iova, lengthBytes });
};

export const allowAndAsk: StormCall = (storm) => {
  const ioasId = storm.id(Shelf.IOAS);
  const ranges: [bigint, bigint][] = storm.oneIn(2) ? [] : [[BigInt(storm.iova()), 0x1fff_ffffn]];
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId, ranges }, { target: ioasId });
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_IOVA_RANGES', { ioasId, numIovas: 8, ranges: [], outIovaAlignment: 0n }, { target: ioasId });
};

export const close: StormCall = (storm) => storm.close(storm.fd(storm.oneOf([Shelf.VFIO_FD, Shelf.ACCESS_FD, Shelf.QUEUE_FD])));

export const faultQueueAlloc: StormCall = (storm) => {
  const arg = { flags: 0, outFaultId: 0, outFaultFd: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_FAULT_QUEUE_ALLOC', arg, {}) !== null) return;
  storm.keepQueue(Shelf.FAULT_QUEUE, arg.outFaultId, arg.outFaultFd);
};

export const createAccess: StormCall = (storm) => {
  const id = storm.id(Shelf.IOAS);
  const arg = { id, flags: storm.oneOf([1, 1, 0]), outAccessFd: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.test('IOMMU_TEST_CREATE_ACCESS', arg, { target: id }) === null) storm.keepFd(Shelf.ACCESS_FD, arg.outAccessFd);
};

export const accessPages: StormCall = (storm) => {
  const [fd, iova, lengthBytes] = [storm.fd(Shelf.ACCESS_FD), storm.iova(), storm.lengthBytes()];
  const arg = { fd, flags: storm.oneOf([0, 1]), iova: BigInt(iova), length: BigInt(lengthBytes), userVa: 0n, outAccessPagesId: 0 };
  if (storm.oneIn(6)) storm.refuseOne();
  const errno = storm.test('IOMMU_TEST_ACCESS_PAGES', arg, { other: fd, iova, lengthBytes });
  const { outAccessPagesId: accessPagesId } = arg;
  if (errno === null && storm.oneIn(2)) storm.test('IOMMU_TEST_DESTROY_ACCESS_PAGES', { fd, accessPagesId }, { other: fd });
};

export const accessRw: StormCall = (storm) => {
  const [fd, iova, lengthBytes] = [storm.fd(Shelf.ACCESS_FD), storm.iova() + 64, storm.oneOf([64, 2 * page])];
  const arg = { fd, flags: storm.oneOf([0, 1]), iova: BigInt(iova), length: BigInt(lengthBytes), buffer: new Uint8Array(lengthBytes) };
  storm.test('IOMMU_TEST_ACCESS_RW', arg, { other: fd, iova, lengthBytes });
};

export const accessMove: StormCall = (storm) => {
  const [fd, ioasId] = [storm.fd(Shelf.ACCESS_FD), storm.id(Shelf.IOAS)];
  storm.test('IOMMU_TEST_ACCESS_REPLACE_IOAS', { fd, ioasId }, { target: ioasId, other: fd });
};

export const option: StormCall = (storm) => {
  const objectId = storm.id(Shelf.IOAS);
  storm.ioctl(storm.stage.iommufd, 'IOMMU_OPTION', { optionId: 1, op: storm.oneOf([0, 1]), objectId, val64: storm.oneOf([0n, 1n]) }, { target: objectId });
};

export const changeProcess: StormCall = (storm) => {
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_CHANGE_PROCESS', {}, {});
};

export const passing: StormCall = (storm) => {
  const [ioasId, iova] = [storm.id(Shelf.IOAS), storm.iova()];
  const userVa = storm.vm.mmap(page);
  storm.ioctl(storm.stage.iommufd, 'IOMMU_IOAS_MAP', { flags: 7, ioasId, userVa, length: BigInt(page), iova: BigInt(iova) }, { target: ioasId, iova, lengthBytes: page });
  storm.vm.munmap(userVa, page);
};
