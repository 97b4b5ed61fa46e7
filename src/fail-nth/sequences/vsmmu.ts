/** A guest's virtual SMMUv3: its vIOMMU, its devices' numbers, its entry, attach, and its commands. */
import { commandBytes } from '../../drivers/command-submitter.ts';
import { steBytes, steData, steOf } from '../../drivers/smmuv3/nested.ts';
import { smmuInvalidateData, smmuViommuType } from '../../drivers/smmuv3/viommu.ts';
import { Opcode } from '../../hardware/smmuv3/commands.ts';
import { HwptFlag } from '../../kernel/hwpt.ts';
import { page, type Caller } from '../caller.ts';
import { topic } from '../sequence.ts';

const descriptorGpa = 0x1_0000;
const virtId = 0x18n;

/** A bound device, an IOAS with the guest's memory, and a nest parent on it. */
function stage(caller: Caller) {
  const fd = caller.open();
  const ioas = caller.ioas(fd);
  caller.must(caller.map(fd, ioas, descriptorGpa, caller.memory(2 * page), 2 * page));
  const A = caller.bind(caller.group('A').vfio[0]!, fd);
  return { fd, A, parent: caller.hwptAlloc(fd, { flags: HwptFlag.NEST_PARENT, devId: A.devId, ptId: ioas }) };
}

const viommuArgument = (devId: number, hwptId: number) => ({ flags: 0, type: smmuViommuType, devId, hwptId, outViommuId: 0 });
const vdeviceArgument = (devId: number, viommuId: number) => ({ viommuId, devId, virtId, outVdeviceId: 0 });
const entryArgument = (devId: number, ptId: number) => ({ flags: 0, devId, ptId, dataType: steData, dataLength: steBytes, data: steOf(descriptorGpa), outHwptId: 0 });

function withViommu(caller: Caller) {
  const made = stage(caller);
  const arg = viommuArgument(made.A.devId, made.parent);
  caller.must(caller.ioctl(made.fd, 'IOMMU_VIOMMU_ALLOC', arg));
  return { ...made, viommu: arg.outViommuId };
}

function withEntry(caller: Caller) {
  const made = withViommu(caller);
  caller.must(caller.ioctl(made.fd, 'IOMMU_VDEVICE_ALLOC', vdeviceArgument(made.A.devId, made.viommu)));
  const arg = entryArgument(made.A.devId, made.viommu);
  caller.must(caller.ioctl(made.fd, 'IOMMU_HWPT_ALLOC', arg));
  return { ...made, hwpt: arg.outHwptId };
}

export default topic('smmuv3', {
  'VIOMMU_ALLOC of SMMUv3': (caller) => {
    const { fd, A, parent } = stage(caller);
    return () => caller.ioctl(fd, 'IOMMU_VIOMMU_ALLOC', viommuArgument(A.devId, parent));
  },
  'VDEVICE_ALLOC of SMMUv3': (caller) => {
    const { fd, A, viommu } = withViommu(caller);
    return () => caller.ioctl(fd, 'IOMMU_VDEVICE_ALLOC', vdeviceArgument(A.devId, viommu));
  },
  "HWPT_ALLOC of a guest's stream-table entry": (caller) => {
    const { fd, A, viommu } = withViommu(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', entryArgument(A.devId, viommu));
  },
  "ATTACH to a guest's stream-table entry": (caller) => {
    const { A, hwpt } = withEntry(caller);
    return () => caller.attach(A.fd, hwpt);
  },
  "HWPT_INVALIDATE of a guest's commands": {
    answersLast: true,
    begin: (caller) => {
      const { fd, viommu } = withEntry(caller);
      const data = new Uint8Array(commandBytes);
      data[0] = Opcode.TLBI_NH_ALL;
      return () => caller.ioctl(fd, 'IOMMU_HWPT_INVALIDATE', { hwptId: viommu, data, dataType: smmuInvalidateData, entryLength: commandBytes, entryCount: 1 });
    },
  },
});
