/**
 * A RISC-V unit keeps the contexts of its devices until it is told to forget them. A device is replaced between two IOASes, each of which another one stays on: what the unit knows
 * of them is true all the time, but not what it knows of the device.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'a device context of RISC-V is replaced under the DMA of its device',
  seed: null,
  host: { iommu: 'riscv' },
  variants: ['riscv-no-inval-on-dc'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'D10', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, src, tags);
    vmm.assign(w.device('B'), iommufd, first);
    vmm.assign(w.device('C'), iommufd, second);
    return { fd: vmm.assign(w.device('A'), iommufd, first), first, second };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      for (const ioas of [second, first]) thread.expect('the replace', thread.attach(fd, ioas));
    }),

    A: device('A', (dev) => dev.readTag(src, tags, 3)),
  }),
});
