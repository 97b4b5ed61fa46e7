/**
 * Scalable mode, two devices behind a PCIe-to-PCI bridge, which forwards their requests under an alias. Every ATTACH says 0; under the
 * alias there is nothing, so that every DMA faults: K8 of 7.2, `aliasPasidTableSkipped` (RACES, part E: vtd-scalable-alias-skip). Seen on an emulated unit.
 */
import { bridge, endpoint } from '../kernel/pci.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'devices behind a bridge are attached in scalable mode, and do DMA under the bridge\'s alias',
  seed: null,
  host: { iommu: 'vtd-scalable' },
  caught72: 'G2',
  variants: ['K8', 'mended'],
  holds: ['D4', 'D6', 'D10', 'G2', 'G5', 'O1', 'O5'],

  world(w) {
    const [group] = w.pci({ 5: bridge('PCIe-to-PCI bridge', { 1: endpoint('A'), 2: endpoint('B') }) });
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioases = vmm.taggedIoases(iommufd, src, tags);
    const [fdA, fdB] = group!.vfio.map((vfio) => vmm.bind(vfio, iommufd)) as [number, number];
    return { fdA, fdB, ioases };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fdA, fdB, ioases: [first, second] }) => {
      for (const fd of [fdA, fdB]) thread.expect('an ATTACH', thread.attach(fd, first));
      thread.expect('the replace', thread.attach(fdA, second));
      for (const fd of [fdA, fdB]) thread.detach(fd);
    }),

    /** Before the first ATTACH and after the last DETACH a fault is legal. */
    A: device('A', (dev) => dev.readTag(src, tags)),
    B: device('B', (dev) => dev.readTag(src, tags)),
  }),
});
