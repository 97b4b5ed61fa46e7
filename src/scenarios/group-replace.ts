/**
 * Seed 002: two members of one group are replaced at the same time, to different IOASes, while both do DMA, a third
 * thread maps and unmaps, and another VM is busy beside them.
 *
 * The group is a multi-function device on the root bus: each function has a VFIO dev_set of its own, so two ATTACHes run
 * at once (behind a bridge the dev_set's lock would serialise them).
 */
import { guestFreeGpa } from '../actors/command-ring.ts';
import type { Device } from '../actors/device.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const scratch = 0x20000000;
const guestIova = 0x40000000;
const guestBuffer = guestFreeGpa;
const page = 4096;
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
    const tags = [0x1111, 0x2222, 0x3333];
    const [ioas1, ioas2, ioas3] = tags.map((tag) => {
      const ioas = vmm.ioas(iommufd);
      vmm.map(iommufd, ioas, src, vmm.memory(page, tag), page);
      return ioas;
    }) as [number, number, number];
    const fdA = vmm.bind(group.vfio[0]!, iommufd);
    const fdB = vmm.bind(group.vfio[1]!, iommufd);
    vmm.attach(fdA, ioas1);
    vmm.attach(fdB, ioas1);
    // Devices of other groups stay on the new IOASes: their domains live on, whatever becomes of A and B.
    vmm.attach(vmm.bind(w.group('X').vfio[0]!, iommufd), ioas2);
    vmm.attach(vmm.bind(w.group('Y').vfio[0]!, iommufd), ioas3);
    const scratchVa = vmm.memory(page, 0x4444);

    const lone = w.group('C');
    const guest = w.guest('guest', 16);
    const guestIommufd = guest.iommufd();
    const guestIoas = guest.ioas(guestIommufd);
    guest.attach(guest.bind(lone.vfio[0]!, guestIommufd), guestIoas);
    return { iommufd, ioas1, ioas2, ioas3, fdA, fdB, tags, scratchVa, guestIommufd, guestIoas };
  },

  actors: ({ vm, device, viommu }) => ({
    'replace A': vm('vmm', (thread, { fdA, ioas2 }) => {
      const errno = thread.attach(fdA, ioas2);
      thread.check(errno === null, `replacing A failed: ${errno}`);
    }),

    'replace B': vm('vmm', (thread, { fdB, ioas3 }) => {
      const errno = thread.attach(fdB, ioas3);
      thread.check(errno === null, `replacing B failed: ${errno}`);
    }),

    /** The VMM goes on mapping for B: on the IOAS that it has, and on the one that it is about to have. */
    mapper: vm('vmm', (thread, { iommufd, ioas1, ioas3, scratchVa }) => {
      for (const ioas of [ioas1, ioas3]) {
        thread.check(thread.map(iommufd, ioas, scratch, scratchVa, page) === null, `a map on IOAS ${ioas} was refused`);
        thread.check(thread.unmap(iommufd, ioas, scratch, page) === null, `an unmap on IOAS ${ioas} was refused`);
      }
    }),

    A: device('A', (dev, { tags }) => readTwice(dev, tags)),
    B: device('B', (dev, { tags }) => readTwice(dev, tags)),

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

/** A replace on VT-d breaks before it makes: a fault is legal, another process's bytes are not. */
function readTwice(dev: Device, tags: readonly number[]): void {
  for (let i = 0; i < 2; i++) {
    if (dev.read(src, lineBytes) === 0) dev.check(tags.includes(dev.word(0)), `read 0x${dev.word(0).toString(16)}, the tag of no IOAS`);
  }
}
