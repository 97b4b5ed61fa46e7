/**
 * Whom does an unmap flush? VT-d has a list for each domain: a unit has to be on it before the first entry that leads there, and until the last one is
 * flushed. Here a device leaves while a page is unmapped; in `vtd-inval-list-attach-window` it joins, and `smmu-invs-vs-attach` is the same of Arm.
 *
 * CANDIDATE: read from Linux 7.2.13, which has a window at either end for a device's own requests, and none for its PASIDs; no report was located. The
 * model's `correct` has the order of the PASIDs. C1 would see the list at once; here it is the DMA that is judged.
 */
import { unmapAndMap } from '../actors/unmap-under-dma.ts';
import { scenario } from '../scenario.ts';

const iova = 0x1000_0000;
const page = 4096;

export default scenario({
  title: 'a device leaves an HWPT while a page is unmapped in it (CANDIDATE)',
  seed: '002',
  race: { number: 2, buggy: 'vtd-inval-list-detach-window' },
  correctIs: 'Linux 7.2.13, but for the order in question, which is that of its PASID path',
  variants: [],
  holds: ['C2', 'C3', 'C4', 'C5', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.taggedIoas(iommufd, iova, 0x1111);
    const { fd, deviceId } = vmm.bound(w.device('A'), iommufd);
    const hwpt = vmm.hwpt(iommufd, deviceId, ioas);
    vmm.attach(fd, hwpt);
    return { iommufd, ioas, fd, hwpt, va: vmm.memory(page, 0x2222) };
  },

  actors: ({ vm, device }) => ({
    A: device('A', (dev) => {
      dev.readTag(iova, [0x1111, 0x2222]);
      dev.serve(1);
    }),

    attacher: vm('vmm', (thread, { fd, hwpt }) => {
      thread.expect('the detach', thread.detach(fd));
      thread.expect('the attach', thread.attach(fd, hwpt));
    }),

    unmapper: vm('vmm', (thread, stage) => unmapAndMap(thread, stage, 'A', iova, page)),
  }),
});
