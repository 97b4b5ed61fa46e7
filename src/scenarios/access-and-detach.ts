/**
 * The kernel's own access to an IOAS (as of a device whose DMA is done by software) beside a device: it pins pages while a domain over the
 * same pages goes, while they are unmapped, and while it is itself moved to another IOAS, which takes its pins away.
 */
import { scenario } from '../scenario.ts';

const base = 0x1000_0000;
const page = 4096;
const pages = 4;

export default scenario({
  title: 'an access pins pages while it is moved, the pages are unmapped and the domain over them goes',
  seed: null,
  variants: ['access-change-null-window', 'unpin-past-access'],
  holds: ['D1', 'D7', 'G2', 'O1', 'O2', 'O3', 'O4', 'P1', 'P3', 'P5'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [ioas, other] = [vmm.ioas(iommufd), vmm.ioas(iommufd)];
    const buffer = vmm.memory(pages * page, 0x1111);
    for (const one of [ioas, other]) vmm.map(iommufd, one, base, buffer, pages * page);
    const device = vmm.bind(w.group('A').vfio[0]!, iommufd);
    vmm.attach(device, ioas);
    return { iommufd, ioas, other, buffer, device, access: vmm.access(iommufd, ioas) };
  },

  actors: ({ vm, device }) => ({
    /** The last two pages. */
    pinner: vm('vmm', (thread, { iommufd, access }) => {
      const pinned = thread.pin(iommufd, access, base + 2 * page, 2 * page);
      thread.check(typeof pinned === 'number' || pinned === 'ENOENT' || pinned === 'EINVAL', `the pin ended with ${pinned}`);
      if (typeof pinned !== 'number') return;
      const errno = thread.unpin(iommufd, access, pinned);
      thread.check(errno === null || errno === 'ENOENT', `the unpin ended with ${errno}`);
    }),

    mover: vm('vmm', (thread, { iommufd, access, ioas, other }) => {
      for (const target of [other, ioas]) thread.check(thread.moveAccess(iommufd, access, target) === null, 'the access was not moved');
    }),

    detacher: vm('vmm', (thread, { device: fd, ioas }) => {
      thread.check(thread.detach(fd) === null, 'the device was not detached');
      thread.check(thread.attach(fd, ioas) === null, 'the device was not attached');
    }),

    unmapper: vm('vmm', (thread, { iommufd, other, buffer }) => {
      thread.check(thread.unmap(iommufd, other, base, pages * page) === null, 'an unmap was refused');
      thread.check(thread.map(iommufd, other, base, buffer, pages * page) === null, 'a map was refused');
    }),

    A: device('A', (dev) => {
      if (dev.read(base, 64) === 0) dev.check(dev.word(0) === 0x1111, `A read 0x${dev.word(0).toString(16)}`);
    }),
  }),
});
