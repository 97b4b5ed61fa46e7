/**
 * A page of an HWPT is unmapped while the HWPT's first device is attached: either the unmap's flush reaches the unit, or the device never sees
 * what was unmapped.
 */
import { unmapAndMap } from '../actors/unmap-under-dma.ts';
import { scenario } from '../scenario.ts';

const iova = 0x10000000;
const page = 4096;
/** One mapping: its leaves are cleared one after the other, and flushed together. */
const length = 8 * page;
const lineBytes = 64;
const last = iova + length - lineBytes;

export default scenario({
  title: 'the first device of an HWPT is attached while a page is unmapped in it',
  seed: '002',
  host: { iommu: 'smmuv3' },
  race: { number: 2, buggy: 'smmu-invs-vs-attach' },
  variants: [],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    const va = vmm.memory(length, 0x1111);
    const { fd, deviceId } = vmm.bound(w.device('A'), iommufd);
    const hwpt = vmm.hwpt(iommufd, deviceId, ioas);
    vmm.map(iommufd, ioas, iova, va, length);
    return { iommufd, ioas, va, fd, hwpt };
  },

  actors: ({ vm, device }) => ({
    /** Leaves all as it was, so that the body can run again. */
    unmapper: vm('vmm', (thread, stage) => {
      unmapAndMap(thread, stage, 'A', iova, length);
      thread.detach(stage.fd);
    }),

    attacher: vm('vmm', (thread, { fd, hwpt }) => thread.expect('the attach', thread.attach(fd, hwpt))),

    A: device('A', (dev) => {
      dev.read(last, lineBytes);
      dev.serve(1);
    }),
  }),
});
