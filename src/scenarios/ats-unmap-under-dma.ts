/**
 * Two devices with ATS keep translations of an IOAS. A page of it is mapped and unmapped, each time to be forgotten by the unit and then by both, while one of them is moved to a
 * second IOAS and back. Forward-looking on RISC-V, whose driver has no ATS in 7.2; on VT-d (`--iommu`) it is what 7.2 does.
 */
import type { Ref } from '#hostmem/object';
import { enableAts } from '../kernel/iommu-probe.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const churn = 0x20000000;
const page = 4096;
const lineBytes = 64;
const tags = [0x1111, 0x2222] as const;
const churned = 0x3333;

export default scenario({
  title: 'a page is unmapped that devices keep by ATS, while one of them is replaced',
  seed: null,
  host: { iommu: 'riscv', ats: true },
  variants: ['ats-left-out', 'ats-before-iotlb', 'ats-kept-over-replace'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'D8', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, src, tags);
    const fdA = vmm.assign(w.device('A'), iommufd, first);
    vmm.assign(w.device('B'), iommufd, first);
    for (const name of ['A', 'B']) enableAts(w.kernel, w.directory[name] as Ref<'PciFunction'>);
    return { iommufd, first, second, fdA, va: vmm.memory(page, churned) };
  },

  actors: ({ vm, device }) => ({
    mapper: vm('vmm', (thread, { iommufd, first, va }) => {
      for (let round = 0; round < 2; round++) {
        thread.expect('the map', thread.map(iommufd, first, churn, va, page));
        thread.check(thread.dma('B', 'read', churn, lineBytes) === 0, 'B faulted on a mapped page');
        thread.expect('the unmap', thread.unmap(iommufd, first, churn, page));
        thread.check(thread.dma('B', 'read', churn, lineBytes) !== 0, 'B read a page whose unmap had returned');
      }
    }),

    mover: vm('vmm', (thread, { fdA, first, second }) => {
      for (const ioas of [second, first]) {
        thread.check(thread.dma('A', 'read', src, lineBytes) === 0, 'A faulted between replaces');
        thread.expect(`a replace to IOAS ${ioas}`, thread.attach(fdA, ioas));
      }
      thread.check(thread.dma('A', 'read', src, lineBytes) === 0, 'A faulted behind the replaces');
    }),

    A: device('A', (dev) => {
      dev.readTag(churn, [churned]);
      dev.serve(3);
    }),

    B: device('B', (dev) => dev.serve(4)),
  }),
});
