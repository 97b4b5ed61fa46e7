/**
 * Three functions of one group share one translation: a replace through one of them moves all three. One record has to say so, for whoever maps for
 * the others in the IOAS that they seem to be on, asks for them again, or destroys an HWPT that nobody seems to use.
 */
import { scenario } from '../scenario.ts';

const src = 0x1000_0000;
const scratch = 0x2000_0000;
const page = 4096;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'one of three functions of a group is replaced, while a thread maps in the IOAS that they leave and another one destroys HWPTs',
  seed: '002',
  race: { number: 1, buggy: 'replace-v2' },
  variants: [],
  holds: ['D4', 'D6', 'G1', 'G2', 'G5', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, src, tags);
    const fds = vmm.boundAll(w.group('A', 'B', 'C').vfio, iommufd).map(({ fd }) => fd);
    const next = Math.max(first, second) + fds.length + 1;
    for (const fd of fds) vmm.attach(fd, first);
    return { iommufd, first, second, fds, next, buffer: vmm.memory(page) };
  },

  actors: ({ vm, device }) => ({
    /** There and back: what is asked for through B and C is there already. */
    mover: vm('vmm', (thread, { fds, first, second }) => {
      for (const ioas of [second, first]) for (const fd of fds) thread.expect('a replace', thread.attach(fd, ioas));
    }),

    mapper: vm('vmm', (thread, { iommufd, first, buffer }) => {
      thread.expect('the map', thread.map(iommufd, first, scratch, buffer, page));
      thread.expect('the unmap', thread.unmap(iommufd, first, scratch, page));
    }),

    /** The first HWPTs have these ids. One that nobody is attached to goes by itself. */
    destroyer: vm('vmm', (thread, { iommufd, next }) => {
      for (const id of [next, next + 1]) thread.expect('the DESTROY', thread.destroy(iommufd, id), null, 'EBUSY', 'ENOENT');
    }),

    /** A replace on VT-d breaks before it makes: a fault is legal, another process's bytes are not. */
    B: device('B', (dev) => dev.readTag(src, tags, 2)),
  }),
});
