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
    const device = vmm.assign(w.device('A'), iommufd, ioas);
    return { iommufd, ioas, other, buffer, device, access: vmm.access(iommufd, ioas) };
  },

  actors: ({ vm, device }) => ({
    /** The last two pages. */
    pinner: vm('vmm', (thread, { iommufd, access }) => {
      const pinned = thread.obtain('the pin', thread.pin(iommufd, access, base + 2 * page, 2 * page), 'ENOENT', 'EINVAL');
      if (pinned !== null) thread.expect('the unpin', thread.unpin(iommufd, access, pinned), null, 'ENOENT');
    }),

    mover: vm('vmm', (thread, { iommufd, access, ioas, other }) => {
      for (const target of [other, ioas]) thread.expect('moving the access', thread.moveAccess(iommufd, access, target));
    }),

    detacher: vm('vmm', (thread, { device: fd, ioas }) => {
      thread.expect('the detach', thread.detach(fd));
      thread.expect('the attach', thread.attach(fd, ioas));
    }),

    unmapper: vm('vmm', (thread, { iommufd, other, buffer }) => {
      thread.expect('an unmap', thread.unmap(iommufd, other, base, pages * page));
      thread.expect('a map', thread.map(iommufd, other, base, buffer, pages * page));
    }),

    A: device('A', (dev) => dev.readTag(base, [0x1111])),
  }),
});
