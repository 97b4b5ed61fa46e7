/**
 * A device's PASID entry, 512 bits that hardware reads 128 at a time, changes under the device's DMA: a replace between two
 * IOASes, a detach, an attach.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const page = 4096;
const tags = [0x1111, 0x2222];

export default scenario({
  title: 'a PASID entry is replaced and taken away under the DMA of its device',
  seed: '004',
  host: { iommu: 'vtd-first-stage' },
  variants: ['vtd-pasid-torn-replace', 'vtd-pasid-torn-teardown'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = tags.map((tag) => {
      const ioas = vmm.ioas(iommufd);
      vmm.map(iommufd, ioas, src, vmm.memory(page, tag), page);
      return ioas;
    }) as [number, number];
    const fd = vmm.bind(w.group('A').vfio[0]!, iommufd);
    vmm.attach(fd, first);
    return { fd, first, second };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      for (const ioas of [second, first]) thread.check(thread.attach(fd, ioas) === null, `a replace to IOAS ${ioas} failed`);
      thread.check(thread.detach(fd) === null, 'the detach failed');
      thread.check(thread.attach(fd, first) === null, 'the attach failed');
    }),

    /** VT-d breaks before it makes: a fault is legal, another process's bytes are not. */
    A: device('A', (dev) => {
      for (let i = 0; i < 3; i++) if (dev.read(src, 64) === 0) dev.check(tags.includes(dev.word(0)), `read 0x${dev.word(0).toString(16)}, the tag of no IOAS`);
    }),
  }),
});
