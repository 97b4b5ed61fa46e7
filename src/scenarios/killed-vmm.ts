/**
 * A VMM is killed, or refused memory, wherever it may be: its files close on the thread that ends last, its memory is unpinned, and its device goes to
 * another process, which must not reach what the first one had, nor be reached.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const more = 0x20000000;
const page = 4096;

export default scenario({
  title: 'a VMM is killed or refused memory in the middle of its calls, and another one takes its device',
  seed: null,
  variants: [],
  holds: ['O1', 'O2', 'O3', 'O4', 'O5', 'O6', 'G1', 'G2', 'D1', 'D4', 'P1', 'P3', 'D3'],

  world(w) {
    const group = w.group('A');
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [ioas1, ioas2] = [vmm.ioas(iommufd), vmm.ioas(iommufd)];
    const vas = [vmm.memory(page, 0x1111), vmm.memory(page, 0x2222)];
    vmm.map(iommufd, ioas1, src, vas[0]!, page);
    const device = vmm.bind(group.vfio[0], iommufd);
    vmm.attach(device, ioas1);

    const heir = w.process('heir');
    const heirs = heir.iommufd();
    const heirIoas = heir.taggedIoas(heirs, src, 0x3333);
    return { vfio: group.vfio[0], iommufd, ioas1, ioas2, device, vas, heirs, heirIoas, tags: [0x1111, 0x2222, 0x3333] };
  },

  actors: ({ vm, device }) => ({
    /** Whatever it is refused, it goes on. (A replace that is refused memory is K7: `failed-attach` has it.) */
    vmm: vm('vmm', (thread, { iommufd, ioas2, device: fd, vas }) => {
      thread.mayBeKilled(2);
      thread.mayBeRefused().map(iommufd, ioas2, src, vas[1] as never, page);
      thread.attach(fd, ioas2);
    }),

    mapper: vm('vmm', (thread, { iommufd, ioas1, vas }) => {
      thread.mayBeKilled(2);
      if (thread.mayBeRefused().map(iommufd, ioas1, more, vas[0] as never, page) !== null) return;
      thread.expect('the unmap of what was mapped', thread.unmap(iommufd, ioas1, more, page));
    }),

    heir: vm('heir', (thread, { vfio, heirs, heirIoas }) => {
      const fd = thread.bind(vfio, heirs);
      if (typeof fd !== 'number') return;
      thread.expect("the heir's attach", thread.attach(fd, heirIoas));
      thread.close(fd);
    }),

    A: device('A', (dev, { tags }) => dev.readTag(src, tags, 2)),
  }),
});
