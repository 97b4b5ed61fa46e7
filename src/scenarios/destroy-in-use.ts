/**
 * The lives of objects: ids are destroyed that others are inside of, that the kernel itself is about to take away, and that were
 * never handed over.
 *
 * DESTROY of a busy object is EBUSY and does nothing; the unbind of a device, which cannot fail, never notices that somebody tried.
 */
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'objects are destroyed by their ids while others use them, unbind them and fail to make them',
  seed: null,
  variants: ['destroy-bumps-ref', 'abort-async-file-release'],
  holds: ['O1', 'O2', 'O3', 'O4'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    // The lowest free id is the next object's, whose ever that is.
    return { iommufd, ioas, next: ioas + 1, vfio: w.device('A') };
  },

  actors: ({ vm }) => ({
    /** Is inside calls with the IOAS. */
    user: vm('vmm', (thread, { iommufd, ioas }) => {
      for (let i = 0; i < 2; i++) thread.expect('a call', thread.ranges(iommufd, ioas), null, 'ENOENT');
    }),

    /** Destroys the IOAS, and makes another one, most often under the same id. */
    destroyer: vm('vmm', (thread, { iommufd, ioas }) => {
      const errno = thread.destroy(iommufd, ioas);
      thread.expect('the DESTROY', errno, null, 'EBUSY', 'ENOENT');
      if (errno === null) thread.obtain('an IOAS', thread.ioas(iommufd));
    }),

    /** Tries whatever has the next id. */
    guesser: vm('vmm', (thread, { iommufd, next }) => {
      for (let i = 0; i < 2; i++) thread.expect('a DESTROY', thread.destroy(iommufd, next), null, 'EBUSY', 'ENOENT');
    }),

    /** Binds a device and lets it go again: its object is destroyed by the kernel. */
    owner: vm('vmm', (thread, { iommufd, vfio }) => {
      thread.close(thread.obtain('the bind', thread.bind(vfio, iommufd)));
    }),

    /** Makes a fault queue whose id and descriptor cannot be written to the caller's memory. */
    'queue maker': vm('vmm', (thread, { iommufd }) => thread.expect('a fault queue', thread.faultQueue(iommufd, 'read-only'), 'EFAULT')),
  }),
});
