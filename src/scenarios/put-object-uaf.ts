/** A thread leaves a call with an object while another one destroys it: whatever the first still has to let go of must not lie in what the second frees. */
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'an IOAS is destroyed while a call with it ends',
  seed: null,
  race: { number: 11, buggy: 'put-object-uaf' },
  variants: [],
  holds: ['O1', 'O2', 'O3', 'O4'],

  world(w) {
    const iommufd = w.process('vmm').iommufd();
    return { iommufd };
  },

  actors: ({ vm }) => ({
    destroyer: vm('vmm', (thread, { iommufd }) => {
      const ioas = thread.obtain('an IOAS', thread.ioas(iommufd));
      thread.expect('the DESTROY', thread.destroy(iommufd, ioas), null, 'EBUSY');
    }),

    user: vm('vmm', (thread, { iommufd }) => {
      thread.expect('a call with the first object', thread.ranges(iommufd, 1), null, 'ENOENT');
    }),
  }),
});
