/**
 * AMD's host tables begin with three levels and grow when somebody maps beyond: while one thread maps a page high up, another one unmaps a page
 * that was there before.
 */
import { unmapAndMap } from '../actors/unmap-under-dma.ts';
import { scenario } from '../scenario.ts';

const low = 0x10000000;
const high = 2 ** 40;
const page = 4096;
const lineBytes = 64;

export default scenario({
  title: 'a page table grows by a level while a page is unmapped in it',
  seed: null,
  host: { iommu: 'amd' },
  race: { number: 10, buggy: 'amd-increase-level' },
  variants: [],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.taggedIoas(iommufd, low, 0x1111);
    vmm.assign(w.device('A'), iommufd, ioas);
    return { iommufd, ioas, va: vmm.memory(page, 0x2222) };
  },

  actors: ({ vm, device }) => ({
    /** Both ways, so that the body can run again. */
    unmapper: vm('vmm', (thread, stage) => unmapAndMap(thread, stage, 'A', low, page)),

    mapper: vm('vmm', (thread, { iommufd, ioas, va }) => {
      thread.expect('the map beyond three levels', thread.map(iommufd, ioas, high, va, page));
      thread.expect('the unmap beyond three levels', thread.unmap(iommufd, ioas, high, page));
    }),

    A: device('A', (dev) => {
      dev.read(low, lineBytes);
      dev.read(high, lineBytes);
      dev.serve(1);
    }),
  }),
});
