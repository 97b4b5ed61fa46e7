/**
 * Scalable mode, two devices behind a PCIe-to-PCI bridge, which forwards their requests under an alias. Every ATTACH says 0; under the
 * alias there is nothing, so that every DMA faults: K8 of 7.2, `aliasPasidTableSkipped` (RACES, part E: vtd-scalable-alias-skip). Seen on an emulated unit.
 */
import type { Device } from '../actors/device.ts';
import { bridge, endpoint } from '../kernel/pci.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const src = 0x10000000;
const tags = [0x1111, 0x2222];

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
    const ioases = tags.map((tag) => {
      const ioas = vmm.ioas(iommufd);
      vmm.map(iommufd, ioas, src, vmm.memory(page, tag), page);
      return ioas;
    });
    const [fdA, fdB] = group!.vfio.map((vfio) => vmm.bind(vfio, iommufd)) as [number, number];
    return { fdA, fdB, ioases };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fdA, fdB, ioases: [first, second] }) => {
      for (const fd of [fdA, fdB]) thread.check(thread.attach(fd, first!) === null, 'an ATTACH failed');
      thread.check(thread.attach(fdA, second!) === null, 'the replace failed');
      for (const fd of [fdA, fdB]) thread.detach(fd);
    }),

    A: device('A', (dev) => readTag(dev)),
    B: device('B', (dev) => readTag(dev)),
  }),
});

/** Before the first ATTACH and after the last DETACH a fault is legal. */
function readTag(dev: Device): void {
  if (dev.read(src, 64) === 0) dev.check(tags.includes(dev.word(0)), `read 0x${dev.word(0).toString(16)}, the tag of no IOAS`);
}
