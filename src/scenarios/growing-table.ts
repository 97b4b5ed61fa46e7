/**
 * AMD's host tables begin with three levels and grow when somebody maps beyond: while one thread maps a page high up, another one unmaps a page
 * that was there before.
 */
import { scenario } from '../scenario.ts';

const low = 0x10000000;
const high = 2 ** 40;
const page = 4096;
const lineBytes = 64;

export default scenario({
  title: 'a page table grows by a level while a page is unmapped in it',
  seed: null,
  host: { iommu: 'amd' },
  variants: ['amd-increase-level'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, low, vmm.memory(page, 0x1111), page);
    vmm.attach(vmm.bind(w.group('A').vfio[0]!, iommufd), ioas);
    return { iommufd, ioas, va: vmm.memory(page, 0x2222) };
  },

  actors: ({ vm, device }) => ({
    /** Both ways, so that the body can run again. */
    unmapper: vm('vmm', (thread, { iommufd, ioas, va }) => {
      thread.check(thread.unmap(iommufd, ioas, low, page) === null, 'the unmap was refused');
      thread.check(thread.dma('A', 'read', low, lineBytes) !== 0, 'A read a page whose unmap had returned');
      thread.check(thread.map(iommufd, ioas, low, va, page) === null, 'the map was refused');
    }),

    mapper: vm('vmm', (thread, { iommufd, ioas, va }) => {
      thread.check(thread.map(iommufd, ioas, high, va, page) === null, 'the map beyond three levels was refused');
      thread.check(thread.unmap(iommufd, ioas, high, page) === null, 'the unmap beyond three levels was refused');
    }),

    A: device('A', (dev) => {
      dev.read(low, lineBytes);
      dev.read(high, lineBytes);
      dev.serve(1);
    }),
  }),
});
