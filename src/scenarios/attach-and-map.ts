/**
 * An IOAS whose last device leaves while another one joins it and a third thread maps: whoever joins must not be given the domain that
 * is going, and every domain must have every mapping.
 */
import { scenario } from '../scenario.ts';

const standing = 0x1000_0000;
const passing = 0x2000_0000;
const page = 4096;
const tag = 0x1111;

export default scenario({
  title: 'a device leaves an IOAS while another one joins it and a thread maps',
  seed: null,
  variants: ['autodomain-hwpt-vs-destroy', 'hwpt-list-double-add'],
  holds: ['D1', 'D4', 'D7', 'G1', 'G2', 'G5', 'O1', 'O2', 'O3', 'O4', 'P1', 'P5', 'D3'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.taggedIoas(iommufd, standing, tag);
    const leaver = vmm.bound(w.device('A'), iommufd);
    const joiner = vmm.bound(w.device('B'), iommufd);
    vmm.attach(leaver.fd, ioas);
    return { iommufd, ioas, leaver, joiner, buffer: vmm.memory(page) };
  },

  actors: ({ vm, device }) => ({
    'A leaves': vm('vmm', (thread, { ioas, leaver }) => {
      thread.expect('detaching A', thread.detach(leaver.fd));
      thread.expect('attaching A', thread.attach(leaver.fd, ioas));
    }),

    'B joins': vm('vmm', (thread, { ioas, joiner }) => {
      thread.expect('attaching B', thread.attach(joiner.fd, ioas));
      thread.check(thread.dma('B', 'read', standing, 64) === 0, 'B faulted on what is mapped all the time');
      thread.expect('detaching B', thread.detach(joiner.fd));
    }),

    mapper: vm('vmm', (thread, { iommufd, ioas, buffer }) => {
      thread.expect('a map', thread.map(iommufd, ioas, passing, buffer, page));
      thread.expect('an unmap', thread.unmap(iommufd, ioas, passing, page));
    }),

    B: device('B', (dev) => {
      dev.serve(1);
      dev.check(dev.word(0) === tag, `B read 0x${dev.word(0).toString(16)}`);
    }),
  }),
});
