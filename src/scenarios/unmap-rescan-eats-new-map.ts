/**
 * An unmap of a range in which there are several mappings, while another thread maps wherever the kernel finds room: the room is what the
 * unmap has just freed.
 */
import { scenario } from '../scenario.ts';

const base = 0x1000_0000;
const page = 4096;
const pages = 3;

export default scenario({
  title: 'a thread unmaps a range piece by piece while another one is given what is free already',
  seed: null,
  race: { number: 3, buggy: 'unmap-rescan-eats-new-map' },
  variants: [],
  holds: ['O1', 'O2', 'P1', 'P2', 'P3', 'P5'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.allow(iommufd, ioas, base, base + pages * page - 1);
    vmm.assign(w.device('A'), iommufd, ioas);
    const buffers = Array.from({ length: pages }, (_, index) => vmm.memory(page, index + 1));
    buffers.forEach((va, index) => vmm.map(iommufd, ioas, base + index * page, va, page));
    return { iommufd, ioas, buffers, other: vmm.memory(page, 0x9999) };
  },

  actors: ({ vm }) => ({
    /** The range was full; what the other thread has mapped by then is not this thread's to complain about. */
    unmapper: vm('vmm', (thread, { iommufd, ioas, buffers }) => {
      thread.expect('the unmap', thread.unmap(iommufd, ioas, base, pages * page), null, 'EBUSY', 'ENOENT');
      buffers.forEach((va, index) => {
        thread.expect('a map', thread.map(iommufd, ioas, base + index * page, va, page), null, 'EEXIST');
      });
    }),

    mapper: vm('vmm', (thread, { iommufd, ioas, other }) => {
      const iova = thread.obtain('the map', thread.mapAnywhere(iommufd, ioas, other, page), 'ENOSPC');
      // The range is the other thread's too.
      if (iova !== null) thread.expect('the unmap', thread.unmap(iommufd, ioas, iova, page), null, 'ENOENT', 'EBUSY');
    }),
  }),
});
