/**
 * Seed 002: two members of one group are replaced at the same time, to different IOASes, while both do DMA, a third
 * thread maps and unmaps, and another VM is busy beside them.
 *
 * The group is a multi-function device on the root bus: each function has a VFIO dev_set of its own, so two ATTACHes run
 * at once (behind a bridge the dev_set's lock would serialise them).
 */
import { guestFreeGpa } from '../actors/command-ring.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const scratch = 0x20000000;
const guestIova = 0x40000000;
const guestBuffer = guestFreeGpa;
const page = 4096;
const tags = [0x1111, 0x2222, 0x3333] as const;
const lineBytes = 64;

export default scenario({
  title: 'two members of one group are replaced at the same time, while both do DMA',
  seed: '002',
  variants: ['replace-v2', 'replace-unlocked'],
  holds: ['D4', 'D6', 'G1', 'G2', 'O1', 'D3'],

  world(w) {
    const group = w.group('A', 'B');
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [ioas1, ioas2, ioas3] = vmm.taggedIoases(iommufd, src, tags);
    const [fdA, fdB] = [vmm.bind(group.vfio[0], iommufd), vmm.bind(group.vfio[1], iommufd)];
    for (const fd of [fdA, fdB]) vmm.attach(fd, ioas1);
    // Devices of other groups stay on the new IOASes: their domains live on, whatever becomes of A and B.
    vmm.assign(w.device('X'), iommufd, ioas2);
    vmm.assign(w.device('Y'), iommufd, ioas3);
    const scratchVa = vmm.memory(page, 0x4444);

    const lone = w.device('C');
    const guest = w.guest('guest', 16);
    const guestIommufd = guest.iommufd();
    const guestIoas = guest.ioas(guestIommufd);
    guest.assign(lone, guestIommufd, guestIoas);
    return { iommufd, ioas1, ioas2, ioas3, fdA, fdB, scratchVa, guestIommufd, guestIoas };
  },

  actors: ({ vm, device, viommu }) => ({
    'replace A': vm('vmm', (thread, { fdA, ioas2 }) => thread.expect('replacing A', thread.attach(fdA, ioas2))),

    'replace B': vm('vmm', (thread, { fdB, ioas3 }) => thread.expect('replacing B', thread.attach(fdB, ioas3))),

    /** The VMM goes on mapping for B: on the IOAS that it has, and on the one that it is about to have. */
    mapper: vm('vmm', (thread, { iommufd, ioas1, ioas3, scratchVa }) => {
      for (const ioas of [ioas1, ioas3]) {
        thread.expect(`a map on IOAS ${ioas}`, thread.map(iommufd, ioas, scratch, scratchVa, page));
        thread.expect(`an unmap on IOAS ${ioas}`, thread.unmap(iommufd, ioas, scratch, page));
      }
    }),

    /** A replace on VT-d breaks before it makes: a fault is legal, another process's bytes are not. */
    A: device('A', (dev) => dev.readTag(src, tags, 2)),
    B: device('B', (dev) => dev.readTag(src, tags, 2)),

    /** The other VM's guest: maps a page through its vIOMMU, lets its device write there, looks, and unmaps. */
    guest: vm('guest', (thread) => {
      thread.guestStore('guest', guestBuffer, 0);
      thread.check(thread.guestMap('guest', guestIova, guestBuffer, 1), 'the vIOMMU refused a map');
      thread.check(thread.dma('C', 'write', guestIova, lineBytes) === 0, 'the device faulted on a mapped page');
      thread.check(thread.guestLoad('guest', guestBuffer) === 0x5555, 'the device wrote somewhere else');
      thread.check(thread.guestUnmap('guest', guestIova, 1), 'the vIOMMU refused an unmap');
    }),

    vIOMMU: viommu('guest', (virtual, { guestIommufd, guestIoas }) => virtual.serve(guestIommufd, guestIoas, 2)),

    C: device('C', (dev) => {
      dev.setWord(0, 0x5555);
      dev.serve(1);
    }),
  }),
});
