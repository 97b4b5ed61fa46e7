/**
 * A device's PASID entry, 512 bits that hardware reads 128 at a time, changes under the device's DMA: a replace between two
 * IOASes, a detach, an attach.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'a PASID entry is replaced and taken away under the DMA of its device',
  seed: '004',
  host: { iommu: 'vtd-first-stage' },
  race: { number: 4, buggy: 'vtd-pasid-torn-replace' },
  variants: ['vtd-pasid-torn-teardown', 'vtd-pasid-hitless'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, src, tags);
    const fd = vmm.assign(w.device('A'), iommufd, first);
    return { fd, first, second };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      for (const ioas of [second, first]) thread.expect(`a replace to IOAS ${ioas}`, thread.attach(fd, ioas));
      thread.expect('the detach', thread.detach(fd));
      thread.expect('the attach', thread.attach(fd, first));
    }),

    /** VT-d breaks before it makes: a fault is legal, another process's bytes are not. */
    A: device('A', (dev) => dev.readTag(src, tags, 3)),
  }),
});
