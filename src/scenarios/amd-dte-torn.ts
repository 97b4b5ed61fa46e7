/**
 * AMD's device-table entry has 256 bits, of which hardware reads 128 at once and the kernel writes 128 at once, so that what it finds is one entry or the other. Two replaces
 * change it under the device's own DMA; another device stays where it is, so that its domain's number is in use.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'a device-table entry is written under the DMA of its device',
  seed: null,
  host: { iommu: 'amd' },
  variants: ['amd-dte-torn'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, src, tags);
    const fd = vmm.assign(w.device('A'), iommufd, first);
    vmm.assign(w.device('B'), iommufd, second);
    return { fd, first, second };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      for (const ioas of [second, first]) thread.expect(`a replace to IOAS ${ioas}`, thread.attach(fd, ioas));
    }),

    A: device('A', (dev) => dev.readTag(src, tags, 2)),
    B: device('B', (dev) => dev.check(dev.read(src, 64) === 0 && dev.word(0) === tags[1], 'the other device lost its page')),
  }),
});
