/**
 * Recorded of a running 7.2.13 (RACES, part E): a loop of replaces between two IOASes that both map the address, and DMA of the group beside it, of which some faults:
 * the entry is torn down, flushed, and set up again, and in between the device has none. Its group mate is hit as well. No page but one of the two is ever reached.
 */
import type { Device } from '../actors/device.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'a group is replaced between two IOASes that both map what it reads: break before make is declared, and seen',
  seed: '002',
  host: { iommu: 'vtd-legacy' },
  variants: ['no-break-window'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D5', 'D6', 'D7', 'D10', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, src, tags);
    const [fdA, fdB] = w.group('A', 'B').vfio.map((vfio) => vmm.bind(vfio, iommufd)) as [number, number];
    for (const fd of [fdA, fdB]) vmm.attach(fd, first);
    return { fdA, first, second };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fdA, first, second }) => {
      for (const ioas of [second, first]) thread.expect(`a replace to IOAS ${ioas}`, thread.attach(fdA, ioas));
      for (const name of ['A', 'B']) thread.check(thread.dma(name, 'read', src, 64) === 0, `${name} faulted behind the replace`);
    }),

    A: device('A', (dev) => readBeside(dev)),
    B: device('B', (dev) => readBeside(dev)),
  }),
});

/** A fault is legal while the group is moved. */
function readBeside(dev: Device): void {
  dev.readTag(src, tags, 3);
  dev.serve(1);
}
