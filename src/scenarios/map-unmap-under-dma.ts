/**
 * Whatever IOMMU it is: a page is mapped, read by a device, and unmapped, while another device of the same IOAS reads beside it and is moved
 * to a second IOAS and back. Every outcome that is checked is the same on VT-d, AMD, SMMUv3, RISC-V and the mock (`--iommu`); what a replace may let
 * fault in between is declared by the unit (D5): all but the mock, which has one register to write, break before they make, between tables of one stage.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const churn = 0x20000000;
const page = 4096;
const lineBytes = 64;
const tags = [0x1111, 0x2222] as const;
const churned = 0x3333;

export default scenario({
  title: 'a page is mapped and unmapped under DMA, while a sibling of its IOAS is replaced',
  seed: null,
  variants: ['xen-domid-recycle'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D5', 'D6', 'D7', 'D8', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, src, tags);
    const fdA = vmm.assign(w.device('A'), iommufd, first);
    vmm.assign(w.device('B'), iommufd, first);
    return { iommufd, first, second, fdA, va: vmm.memory(page, churned) };
  },

  actors: ({ vm, device }) => ({
    mapper: vm('vmm', (thread, { iommufd, first, va }) => {
      for (let round = 0; round < 2; round++) {
        thread.expect('the map', thread.map(iommufd, first, churn, va, page));
        thread.check(thread.dma('B', 'read', churn, lineBytes) === 0, 'B faulted on a mapped page');
        thread.expect('the unmap', thread.unmap(iommufd, first, churn, page));
        thread.check(thread.dma('B', 'read', churn, lineBytes) !== 0, 'B read a page whose unmap had returned');
        thread.check(thread.dma('B', 'read', src, lineBytes) === 0, 'B lost a page that nobody unmapped');
      }
    }),

    mover: vm('vmm', (thread, { fdA, first, second }) => {
      for (const ioas of [second, first]) thread.expect(`a replace to IOAS ${ioas}`, thread.attach(fdA, ioas));
      thread.check(thread.dma('A', 'read', src, lineBytes) === 0, 'A faulted behind the replace');
    }),

    A: device('A', (dev) => {
      for (let i = 0; i < 2; i++) {
        dev.readTag(src, tags);
        dev.readTag(churn, [churned]);
      }
      dev.serve(1);
    }),

    B: device('B', (dev) => dev.serve(6)),
  }),
});
