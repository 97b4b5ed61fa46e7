/**
 * AMD's device-table entry has 256 bits, of which hardware reads 128 at once and the kernel writes 128 at once, so that what it finds is one entry or the other. Two replaces
 * change it under the device's own DMA; another device stays where it is, so that its domain's number is in use.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const page = 4096;
const tags = [0x1111, 0x2222];

export default scenario({
  title: 'a device-table entry is written under the DMA of its device',
  seed: null,
  host: { iommu: 'amd' },
  variants: ['amd-dte-torn'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

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
    vmm.attach(vmm.bind(w.group('B').vfio[0]!, iommufd), second);
    return { fd, first, second };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      for (const ioas of [second, first]) thread.check(thread.attach(fd, ioas) === null, `a replace to IOAS ${ioas} failed`);
    }),

    A: device('A', (dev) => {
      for (let i = 0; i < 2; i++) if (dev.read(src, 64) === 0) dev.check(tags.includes(dev.word(0)), `read 0x${dev.word(0).toString(16)}, the tag of no IOAS`);
    }),
    B: device('B', (dev) => dev.check(dev.read(src, 64) === 0 && dev.word(0) === tags[1], 'the other device lost its page')),
  }),
});
