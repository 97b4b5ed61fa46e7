/**
 * Seed 002: a VMM moves a group of three to another IOAS by a replace through one member, and asks for the others as well, as it should; meanwhile it
 * maps in the IOAS that they leave, where a device of another group lives. What may fail must leave all as it was: a replace into an IOAS that has a
 * mapping in the interrupt window, one through a member that never attached, and the claim of a group with a member that cannot be blocked.
 *
 * Two replaces that race are another story: `group-replace`.
 */
import { replaceWithoutAttach } from '../actors/driver-calls.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const src = 0x1000_0000;
const fresh = 0x2000_0000;
const interruptWindow = 0xfee0_0000;
const tags = [0x1111, 0x2222, 0x3333, 0x4444] as const;
const freshTag = 0x5555;

export default scenario({
  title: 'a group is replaced through one member, while another group\'s device has a page mapped in the IOAS that it leaves',
  seed: '002',
  variants: ['replace-v2', 'block-map-while-pending', 'igroup', 'replace-unattached-member', 'replace-partial-rollback'],
  holds: ['D4', 'D6', 'G1', 'G2', 'O1', 'O5', 'O6'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second, third, taken] = vmm.taggedIoases(iommufd, src, tags);
    vmm.map(iommufd, taken, interruptWindow, vmm.memory(page), page);
    const [a, b, c] = vmm.boundAll(w.group('A', 'B', 'C').vfio, iommufd);
    for (const { fd } of [a, b]) vmm.attach(fd, first);
    vmm.assign(w.device('X'), iommufd, first);
    const mixed = w.group('R', 'Q');
    w.requireDirect('Q');
    return { iommufd, first, second, third, taken, fdA: a.fd, fdB: b.fd, unattached: c.deviceId, mixed: mixed.vfio[0], buffer: vmm.memory(page, freshTag) };
  },

  actors: ({ vm, device }) => ({
    /** There and back. A replace through A moves B too: the one through B finds nothing to do. */
    vmm: vm('vmm', (thread, { fdA, fdB, first, second, taken }) => {
      thread.check(thread.attach(fdA, taken) === 'EADDRINUSE', 'a group moved to where its interrupts are mapped away');
      for (const ioas of [second, first])
        for (const fd of [fdA, fdB]) thread.expect('a replace', thread.attach(fd, ioas));
    }),

    /** For X, whose group nobody moves. That the IOAS_MAP is refused is O6's affair. */
    mapper: vm('vmm', (thread, { iommufd, first, buffer }) => {
      const isMapped = thread.map(iommufd, first, fresh, buffer, page) === null;
      const reached = thread.dma('X', 'read', fresh, 64) === 0;
      thread.check(reached === isMapped, 'X does not see what its IOAS maps');
      if (isMapped) thread.expect('an unmap', thread.unmap(iommufd, first, fresh, page));
    }),

    'another driver': vm('vmm', (thread, { iommufd, unattached, third }) => {
      thread.expect('a replace of what never attached', replaceWithoutAttach(thread, iommufd, unattached, third), 'EINVAL');
    }),

    claimant: vm('vmm', (thread, { mixed, iommufd }) => {
      thread.check(thread.bind(mixed, iommufd) === 'EINVAL', 'a group was claimed that cannot be blocked');
    }),

    /** A replace on VT-d breaks before it makes: a fault is legal, another process's bytes are not. */
    B: device('B', (dev) => dev.readTag(src, tags, 2)),

    X: device('X', (dev) => dev.serve(1)),
  }),
});
