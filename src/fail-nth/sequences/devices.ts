/** Devices of VT-d: open, BIND, ATTACH, replace, PASIDs, legacy groups, and the HWPTs that their user makes. */
import { errnoOf } from '../../kernel/errno.ts';
import { page, type Caller } from '../caller.ts';
import { topic } from '../sequence.ts';

const iova = 0x1000_0000;
const PASID = 8;

interface Stage {
  readonly fd: number;
  /** With a mapping each. */
  readonly ids: readonly [number, number];
  /** Members of one group. */
  readonly A: ReturnType<Caller['bind']>;
  readonly B: ReturnType<Caller['bind']>;
}

/** Two members of a group, bound, and two IOASes with a mapping. */
function stage(caller: Caller): Stage {
  const fd = caller.open();
  const ids = [caller.ioas(fd), caller.ioas(fd)] as const;
  const va = caller.memory(2 * page);
  for (const ioas of ids) caller.must(caller.map(fd, ioas, iova, va, 2 * page));
  const { vfio } = caller.group('A', 'B');
  return { fd, ids, A: caller.bind(vfio[0]!, fd), B: caller.bind(vfio[1]!, fd) };
}

/** The same, both attached to the first IOAS. */
function attached(caller: Caller): Stage {
  const made = stage(caller);
  for (const { fd } of [made.A, made.B]) caller.must(caller.attach(fd, made.ids[0]));
  return made;
}

/** Two HWPTs for PASIDs on the first IOAS. */
function forPasids(caller: Caller): Stage & { hwpts: readonly [number, number] } {
  const made = stage(caller);
  const alloc = (): number => caller.hwptAlloc(made.fd, { flags: PASID, devId: made.A.devId, ptId: made.ids[0] });
  return { ...made, hwpts: [alloc(), alloc()] };
}

export default topic('vtd-legacy', {
  'open of a VFIO device': (caller) => {
    const { vfio } = caller.group('A');
    return () => errnoOf(() => caller.open(`/dev/vfio/devices/vfio${vfio[0]!}`));
  },
  'BIND of the first member': (caller) => {
    const { vfio } = caller.group('A', 'B');
    const iommufd = caller.open();
    const fd = caller.open(`/dev/vfio/devices/vfio${vfio[0]!}`);
    return () => caller.ioctl(fd, 'VFIO_DEVICE_BIND_IOMMUFD', { argsz: 24, flags: 0, iommufd, outDevid: 0 });
  },
  'BIND of the second member': (caller) => {
    const { vfio } = caller.group('A', 'B');
    const iommufd = caller.open();
    caller.bind(vfio[0]!, iommufd);
    const fd = caller.open(`/dev/vfio/devices/vfio${vfio[1]!}`);
    return () => caller.ioctl(fd, 'VFIO_DEVICE_BIND_IOMMUFD', { argsz: 24, flags: 0, iommufd, outDevid: 0 });
  },
  'first ATTACH, to an IOAS': (caller) => {
    const { A, ids } = stage(caller);
    return () => caller.attach(A.fd, ids[0]);
  },
  'first ATTACH, to an HWPT': (caller) => {
    const { fd, A, ids } = stage(caller);
    const hwpt = caller.hwptAlloc(fd, { devId: A.devId, ptId: ids[0] });
    return () => caller.attach(A.fd, hwpt);
  },
  'ATTACH of the second member': (caller) => {
    const { A, B, ids } = stage(caller);
    caller.must(caller.attach(A.fd, ids[0]));
    return () => caller.attach(B.fd, ids[0]);
  },
  'replace of a group by another IOAS': (caller) => {
    const { A, ids } = attached(caller);
    return () => caller.attach(A.fd, ids[1]);
  },
  'replace of a group by an HWPT of the same IOAS': (caller) => {
    const { fd, A, ids } = attached(caller);
    const hwpt = caller.hwptAlloc(fd, { devId: A.devId, ptId: ids[0] });
    return () => caller.attach(A.fd, hwpt);
  },
  'DETACH of the last member': (caller) => {
    const { A, B, ids } = stage(caller);
    caller.must(caller.attach(A.fd, ids[0]));
    caller.close(B.fd);
    return () => caller.ioctl(A.fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 });
  },
  'HWPT_ALLOC, paging': (caller) => {
    const { fd, A, ids } = stage(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 0, devId: A.devId, ptId: ids[0], outHwptId: 0 });
  },
  'HWPT_ALLOC on an IOAS that has one': (caller) => {
    const { fd, A, ids } = attached(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 0, devId: A.devId, ptId: ids[0], outHwptId: 0 });
  },
  'HWPT_ALLOC with a fault queue': (caller) => {
    const { fd, A, ids } = stage(caller);
    const queue = { flags: 0, outFaultId: 0, outFaultFd: 0 };
    caller.must(caller.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', queue));
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 4, devId: A.devId, ptId: ids[0], faultId: queue.outFaultId, outHwptId: 0 });
  },
  'FAULT_QUEUE_ALLOC': (caller) => {
    const fd = caller.open();
    return () => caller.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', { flags: 0, outFaultId: 0, outFaultFd: 0 });
  },
  'GET_HW_INFO': (caller) => {
    const { fd, A } = stage(caller);
    return () => caller.ioctl(fd, 'IOMMU_GET_HW_INFO', { flags: 0, devId: A.devId, dataLength: 64, dataType: 0, outMaxPasidLog2: 0, outCapabilities: 0n });
  },
  'ATTACH of a PASID': (caller) => {
    const { A, hwpts } = forPasids(caller);
    return () => caller.attachPasid(A.fd, 5, hwpts[0]);
  },
  'ATTACH of a PASID beside the RID': (caller) => {
    const { A, hwpts } = forPasids(caller);
    caller.must(caller.attach(A.fd, hwpts[1]));
    return () => caller.attachPasid(A.fd, 5, hwpts[0]);
  },
  'replace of a PASID': (caller) => {
    const { A, B, hwpts } = forPasids(caller);
    for (const { fd } of [A, B]) caller.must(caller.attachPasid(fd, 5, hwpts[0]));
    return () => caller.attachPasid(A.fd, 5, hwpts[1]);
  },
  'open of a legacy group': (caller) => {
    const { number } = caller.group('A');
    return () => errnoOf(() => caller.open(`/dev/vfio/${number}`));
  },
  'SET_CONTAINER of a legacy group': (caller) => {
    const { number } = caller.group('A');
    const [fd, group] = [caller.open(), caller.open(`/dev/vfio/${number}`)];
    return () => caller.ioctl(group, 'VFIO_GROUP_SET_CONTAINER', { fd });
  },
  'GET_DEVICE_FD of a legacy group': (caller) => {
    const { number } = caller.group('A');
    const [fd, group] = [caller.open(), caller.open(`/dev/vfio/${number}`)];
    caller.must(caller.ioctl(group, 'VFIO_GROUP_SET_CONTAINER', { fd }));
    return () => caller.ioctl(group, 'VFIO_GROUP_GET_DEVICE_FD', { name: '0000:00:05.0', outFd: 0 });
  },
});
