/**
 * Two IOMMU drivers in one kernel: a mock device has given an IOAS an automatic HWPT of its driver, and a device behind VT-d is moved to
 * that IOAS. The search for an HWPT finds the foreign one; a first attach would skip it, a replace takes it: K9 of 7.2.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'a device is moved to an IOAS whose HWPT another IOMMU driver made',
  seed: null,
  host: { iommu: 'vtd-legacy and mock' },
  caught72: 'O2',
  variants: ['K9', 'mended'],
  holds: ['D4', 'D6', 'D7', 'D10', 'O5'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [shared, own] = vmm.taggedIoases(iommufd, src, tags);
    vmm.mockDevice(iommufd, shared);
    const fd = vmm.assign(w.device('A'), iommufd, own);
    return { fd, shared, own };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, shared, own }) => {
      for (const ioas of [shared, own]) thread.expect(`the move to IOAS ${ioas}`, thread.attach(fd, ioas));
    }),

    A: device('A', (dev) => dev.readTag(src, tags)),
  }),
});
