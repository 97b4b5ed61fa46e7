/** Random calls on VT-d: its domains, devices and their PASIDs, and the type 1 commands, beside those that need no device. */
import {
  accessMove, accessPages, accessRw, allowAndAsk, changeProcess, close, copy, createAccess, destroy, faultQueueAlloc, ioasAlloc, map, mapAnywhere,
  option, passing, unmap,
} from './common-calls.ts';
import { Shelf, type StormCall } from './storm.ts';

const PASID = 8;
/** Not pasid 0, which 7.2 takes for the RID (K5). */
const pasids = [1, 2];

const hwptAlloc: StormCall = (storm) => {
  const [devId, ptId] = [storm.id(Shelf.DEVICE), storm.id(Shelf.IOAS)];
  const arg = { flags: storm.oneOf([0, PASID]), devId, ptId, outHwptId: 0 };
  if (storm.oneIn(4)) storm.refuseOne();
  if (storm.ioctl(storm.stage.iommufd, 'IOMMU_HWPT_ALLOC', arg, { target: devId, other: ptId }) === null) storm.keepId(Shelf.HWPT, arg.outHwptId);
};

const hwInfo: StormCall = (storm) => {
  const devId = storm.id(Shelf.DEVICE);
  const arg = { flags: 0, devId, dataLength: 16, dataType: 0, outMaxPasidLog2: 0, outCapabilities: 0n };
  storm.ioctl(storm.stage.iommufd, 'IOMMU_GET_HW_INFO', arg, { target: devId });
};

const attach: StormCall = (storm) => {
  const [fd, ptId] = [storm.fd(Shelf.VFIO_FD), storm.id(storm.oneOf([Shelf.IOAS, Shelf.HWPT]))];
  const errno = storm.ioctl(fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId }, { target: ptId, other: fd });
  if (errno === null) storm.vm.counters.add('replaces', 1);
};

const attachPasid: StormCall = (storm) => {
  const [fd, ptId] = [storm.fd(Shelf.VFIO_FD), storm.id(storm.oneOf([Shelf.IOAS, Shelf.HWPT]))];
  storm.ioctl(fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 20, flags: 1, ptId, pasid: storm.oneOf(pasids) }, { target: ptId, other: fd });
};

const detach: StormCall = (storm) => {
  const fd = storm.fd(Shelf.VFIO_FD);
  const arg = storm.oneIn(2) ? { argsz: 12, flags: 0 } : { argsz: 16, flags: 1, pasid: storm.oneOf(pasids) };
  storm.ioctl(fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', arg, { other: fd });
};

const openAndBind: StormCall = (storm) => {
  const fd = storm.open(`/dev/vfio/devices/vfio${storm.oneOf(storm.stage.vfio)}`);
  if (fd < 0) return;
  // Nothing is refused here: a BIND that fails for another reason gives its group back to the default domain, and where that has no memory 7.2 leaves it blocked.
  const arg = { argsz: 24, flags: 0, iommufd: storm.stage.iommufd, outDevid: 0 };
  const errno = storm.ioctl(fd, 'VFIO_DEVICE_BIND_IOMMUFD', arg, { other: fd });
  if (errno !== null) storm.close(fd);
  else storm.keepFd(Shelf.VFIO_FD, fd);
  if (errno === null) storm.note(Shelf.DEVICE, arg.outDevid);
};

const typeOne: StormCall = (storm) => {
  const { iommufd } = storm.stage;
  const [ioasId, iova, lengthBytes] = [storm.id(Shelf.IOAS), storm.iova(), storm.lengthBytes()];
  const op = storm.oneOf([0, 1, 1, 2]);
  storm.ioctl(iommufd, 'IOMMU_VFIO_IOAS', { op, ioasId }, { target: op === 1 ? ioasId : 0 });
  if (storm.oneIn(3)) storm.ioctl(iommufd, 'VFIO_SET_IOMMU', { arg: storm.oneOf([1, 3]) }, {});
  if (storm.oneIn(2)) storm.ioctl(iommufd, 'VFIO_IOMMU_MAP_DMA', { argsz: 32, flags: 3, vaddr: storm.va(), iova: BigInt(iova), length: BigInt(lengthBytes) }, {});
  else storm.ioctl(iommufd, 'VFIO_IOMMU_UNMAP_DMA', { argsz: 24, flags: 0, iova: BigInt(iova), length: BigInt(lengthBytes) }, {});
};

/** What is there more than once is drawn more often. */
export const vtdCalls: readonly StormCall[] = [
  ioasAlloc, destroy, destroy, map, map, map, mapAnywhere, unmap, unmap, copy, allowAndAsk, hwptAlloc, hwInfo, attach, attach, attach, attachPasid, detach,
  openAndBind, openAndBind, close, close, close, faultQueueAlloc, createAccess, accessPages, accessPages, accessRw, accessMove, option, changeProcess, typeOne, passing,
];
