/** A guest's first stage on VT-d: its parent, its HWPT, attach and replace, and its invalidations. */
import { vtdS1Bytes, vtdS1Data, vtdS1InvalidateBytes, vtdS1InvalidateData } from '../../drivers/vtd/nested.ts';
import { HwptFlag } from '../../kernel/hwpt.ts';
import { page, type Caller } from '../caller.ts';
import { topic } from '../sequence.ts';

const rootGpa = 0x1000n;
const firstStageWidth = 48;

interface Stage {
  readonly fd: number;
  readonly ioas: number;
  readonly A: ReturnType<Caller['bind']>;
}

/** A bound device, and an IOAS with the guest's memory. */
function stage(caller: Caller): Stage {
  const fd = caller.open();
  const ioas = caller.ioas(fd);
  caller.must(caller.map(fd, ioas, 0x1_0000, caller.memory(2 * page), 2 * page));
  return { fd, ioas, A: caller.bind(caller.group('A').vfio[0]!, fd) };
}

function firstStage(devId: number, ptId: number) {
  const data = new Uint8Array(vtdS1Bytes);
  new DataView(data.buffer).setBigUint64(8, rootGpa, true);
  new DataView(data.buffer).setUint32(16, firstStageWidth, true);
  return { flags: 0, devId, ptId, dataType: vtdS1Data, dataLength: vtdS1Bytes, data, outHwptId: 0 };
}

/** The same with a nest parent and a nested HWPT on it. */
function nested(caller: Caller): Stage & { parent: number; hwpt: number } {
  const made = stage(caller);
  const parent = caller.hwptAlloc(made.fd, { flags: HwptFlag.NEST_PARENT, devId: made.A.devId, ptId: made.ioas });
  const arg = firstStage(made.A.devId, parent);
  caller.must(caller.ioctl(made.fd, 'IOMMU_HWPT_ALLOC', arg));
  return { ...made, parent, hwpt: arg.outHwptId };
}

export default topic('vtd-nested', {
  'HWPT_ALLOC of a nest parent of VT-d': (caller) => {
    const { fd, ioas, A } = stage(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: HwptFlag.NEST_PARENT, devId: A.devId, ptId: ioas, outHwptId: 0 });
  },
  "HWPT_ALLOC of a guest's first stage": (caller) => {
    const { fd, parent, A } = nested(caller);
    return () => caller.ioctl(fd, 'IOMMU_HWPT_ALLOC', firstStage(A.devId, parent));
  },
  "ATTACH to a guest's first stage": (caller) => {
    const { A, hwpt } = nested(caller);
    return () => caller.attach(A.fd, hwpt);
  },
  "HWPT_INVALIDATE of a guest's first stage": {
    answersLast: true,
    begin: (caller) => {
      const { fd, A, hwpt } = nested(caller);
      caller.must(caller.attach(A.fd, hwpt));
      const data = new Uint8Array(vtdS1InvalidateBytes);
      new DataView(data.buffer).setBigUint64(8, 1n, true);
      return () => caller.ioctl(fd, 'IOMMU_HWPT_INVALIDATE', { hwptId: hwpt, data, dataType: vtdS1InvalidateData, entryLength: vtdS1InvalidateBytes, entryCount: 1 });
    },
  },
});
