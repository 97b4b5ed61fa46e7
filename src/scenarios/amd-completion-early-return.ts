/** Two VMs unmap at the same time, each a page of its own domain; both flushes go through one command buffer. */
import type { Device } from '../actors/device.ts';
import { scenario } from '../scenario.ts';

const iova = 0x10000000;
const page = 4096;
const lineBytes = 64;

export default scenario({
  title: 'two domains of one unit are flushed at the same time',
  seed: null,
  host: { iommu: 'amd' },
  race: { number: 9, buggy: 'amd-completion-early-return' },
  variants: [],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'D1', 'D4', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    return Object.fromEntries(['A', 'B'].map((name) => {
      const vmm = w.process(`vmm ${name}`);
      const iommufd = vmm.iommufd();
      const ioas = vmm.ioas(iommufd);
      const va = vmm.memory(page, 0x1111);
      vmm.map(iommufd, ioas, iova, va, page);
      vmm.assign(w.device(name), iommufd, ioas);
      return [name, { iommufd, ioas, va }];
    })) as Readonly<Record<'A' | 'B', { readonly iommufd: number; readonly ioas: number; readonly va: bigint }>>;
  },

  actors: ({ vm, device }) => {
    const unmapper = (name: 'A' | 'B') => vm(`vmm ${name}`, (thread, stage) => {
      const { iommufd, ioas, va } = stage[name];
      thread.expect('the unmap', thread.unmap(iommufd, ioas, iova, page));
      thread.expect('the map', thread.map(iommufd, ioas, iova, va, page));
    });
    return { 'vmm A': unmapper('A'), 'vmm B': unmapper('B'), A: device('A', readTwice), B: device('B', readTwice) };
  },
});

/** What was unmapped in between faults; D1 watches that it does. */
function readTwice(dev: Device): void {
  for (let i = 0; i < 2; i++) dev.read(iova, lineBytes);
}
