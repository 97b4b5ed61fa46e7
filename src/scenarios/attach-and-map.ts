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
  variants: ['autodomain-hwpt-vs-destroy', 'hwpt-list-double-add', 'map-attach-fill-gap'],
  holds: ['D1', 'D4', 'D7', 'G1', 'G2', 'G5', 'O1', 'O2', 'O3', 'O4', 'P1', 'P5', 'D3'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, standing, vmm.memory(page, tag), page);
    const leaver = vmm.bound(w.group('A').vfio[0]!, iommufd);
    const joiner = vmm.bound(w.group('B').vfio[0]!, iommufd);
    vmm.attach(leaver.fd, ioas);
    return { iommufd, ioas, leaver, joiner, buffer: vmm.memory(page) };
  },

  actors: ({ vm, device }) => ({
    'A leaves': vm('vmm', (thread, { ioas, leaver }) => {
      thread.check(thread.detach(leaver.fd) === null, 'A was not detached');
      thread.check(thread.attach(leaver.fd, ioas) === null, 'A was not attached');
    }),

    'B joins': vm('vmm', (thread, { ioas, joiner }) => {
      thread.check(thread.attach(joiner.fd, ioas) === null, 'B was not attached');
      thread.check(thread.dma('B', 'read', standing, 64) === 0, 'B faulted on what is mapped all the time');
      thread.check(thread.detach(joiner.fd) === null, 'B was not detached');
    }),

    mapper: vm('vmm', (thread, { iommufd, ioas, buffer }) => {
      thread.check(thread.map(iommufd, ioas, passing, buffer, page) === null, 'a map was refused');
      thread.check(thread.unmap(iommufd, ioas, passing, page) === null, 'an unmap was refused');
    }),

    B: device('B', (dev) => {
      dev.serve(1);
      dev.check(dev.word(0) === tag, `B read 0x${dev.word(0).toString(16)}`);
    }),
  }),
});
