/** One range of one IOAS, which three threads map and unmap as they like while a device reads there: each call answers as if it were alone. */
import type { Vm } from '../actors/vm.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const page = 4096;

export default scenario({
  title: 'threads map and unmap one range at once: their answers, and what a device finds there, are those of some order',
  seed: null,
  variants: [],
  holds: ['D1', 'D7', 'O1', 'O2', 'O5', 'P1', 'P3', 'P5', 'D3', 'O7'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.assign(w.device('A'), iommufd, ioas);
    return { iommufd, ioas, tags: [0x1111, 0x2222, 0x3333], vas: [0x1111, 0x2222, 0x3333].map((tag) => vmm.memory(page, tag)) };
  },

  actors: ({ vm, device }) => ({
    'mapper 1': vm('vmm', (thread, stage) => mapAndUnmap(thread, stage, 0)),
    'mapper 2': vm('vmm', (thread, stage) => mapAndUnmap(thread, stage, 1)),
    'mapper 3': vm('vmm', (thread, stage) => mapAndUnmap(thread, stage, 2)),

    A: device('A', (dev, { tags }) => dev.readTag(src, tags, 3)),
  }),
});

interface Place {
  readonly iommufd: number;
  readonly ioas: number;
  readonly vas: readonly bigint[];
}

function mapAndUnmap(thread: Vm, { iommufd, ioas, vas }: Place, own: number): void {
  thread.expect('the map', thread.map(iommufd, ioas, src, vas[own]!, page), null, 'EEXIST');
  thread.expect('the unmap', thread.unmap(iommufd, ioas, src, page), null, 'ENOENT', 'EBUSY');
}
