/**
 * The other end of `vtd-inval-list-detach-window`: a device that joins an HWPT while a page is unmapped in it keeps what it has read in between, and nobody
 * will ever flush it. CANDIDATE, as that one.
 */
import { unmapAndMap } from '../actors/unmap-under-dma.ts';
import { scenario } from '../scenario.ts';

const iova = 0x1000_0000;
const page = 4096;

export default scenario({
  title: 'a device joins an HWPT while a page is unmapped in it (CANDIDATE)',
  seed: '002',
  race: { number: 2, buggy: 'vtd-inval-list-attach-window' },
  correctIs: 'Linux 7.2.13, but for the order in question, which is that of its PASID path',
  variants: [],
  holds: ['C2', 'C3', 'C4', 'C5', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.taggedIoas(iommufd, iova, 0x1111);
    const { fd, deviceId } = vmm.bound(w.device('A'), iommufd);
    const hwpt = vmm.hwpt(iommufd, deviceId, ioas);
    return { iommufd, ioas, fd, hwpt, va: vmm.memory(page, 0x2222) };
  },

  actors: ({ vm, device }) => ({
    attacher: vm('vmm', (thread, { fd, hwpt }) => {
      thread.expect('the attach', thread.attach(fd, hwpt));
      thread.expect('the detach', thread.detach(fd));
    }),

    A: device('A', (dev) => {
      dev.readTag(iova, [0x1111, 0x2222]);
      dev.serve(1);
    }),

    unmapper: vm('vmm', (thread, stage) => unmapAndMap(thread, stage, 'A', iova, page)),
  }),
});
