/**
 * A mapping is made for the domains that an IOAS has, while another domain joins it and is filled with the mappings that there are. Whichever comes
 * first, the new domain must have the mapping.
 */
import { scenario } from '../scenario.ts';

const passing = 0x2000_0000;
const page = 4096;
const tag = 0x1111;

export default scenario({
  title: 'a domain joins an IOAS while a page is mapped in it',
  seed: null,
  race: { number: 10, buggy: 'map-attach-fill-gap' },
  variants: [],
  holds: ['D1', 'D3', 'D7', 'G2', 'O1', 'O2', 'P1', 'P3', 'P5'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.assign(w.device('A'), iommufd, ioas);
    return { iommufd, ioas, joiner: vmm.bound(w.device('B'), iommufd), buffer: vmm.memory(page, tag) };
  },

  actors: ({ vm, device }) => ({
    /** The mapping of the round before goes first. */
    mapper: vm('vmm', (thread, { iommufd, ioas, buffer }) => {
      thread.expect('the unmap', thread.unmap(iommufd, ioas, passing, page), null, 'ENOENT');
      thread.expect('the map', thread.map(iommufd, ioas, passing, buffer, page));
    }),

    /** The domain of an HWPT joins when that is made. The HWPT of the round before, which has the id behind the device's, goes first too. */
    joiner: vm('vmm', (thread, { iommufd, ioas, joiner }) => {
      thread.expect('the DESTROY', thread.destroy(iommufd, joiner.deviceId + 1), null, 'ENOENT');
      const hwpt = thread.obtain('the HWPT', thread.hwpt(iommufd, joiner.deviceId, ioas));
      thread.expect('the attach', thread.attach(joiner.fd, hwpt));
      thread.expect('the detach', thread.detach(joiner.fd));
    }),

    B: device('B', (dev) => dev.readTag(passing, [tag], 2)),
  }),
});
