/**
 * A device of a confidential VM goes to T=1 while another queue of its driver maps a page: what that address means is another thing afterwards. The
 * switch and the mapping have to exclude each other. Seed 003 has the whole of it.
 *
 * Forward-looking: 7.2 has no such switch.
 */
import { GuestDriver } from '../actors/guest-driver.ts';
import { SecurityManager } from '../actors/security-manager.ts';
import { scenario } from '../scenario.ts';

const pageBytes = 4096;
const pages = 6;
const bounce = [2, 3];
const buffer = 5;

export default scenario({
  title: 'a device goes to T=1 while another thread maps a page for it (forward-looking)',
  seed: '003',
  race: { number: 8, buggy: 'flip-while-mapped' },
  correctIs: 'a design, V1 of Jul 2024: no switch with live mappings; nothing of it is in 7.2 (forward-looking)',
  variants: [],
  holds: ['D10', 'O1', 'O2', 'T1', 'T2', 'T3', 'T4', 'T6', 'T8'],
  host: { confidential: { checksHits: false } },

  world(w) {
    const vmm = w.confidentialGuest('guest', pages, { shared: bounce });
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('guest'), pages * pageBytes);
    vmm.assign(w.device('A'), iommufd, ioas);
    w.secure('A');
    w.guestDriver('A', 'guest', bounce);
    return {};
  },

  actors: ({ vm, device }) => ({
    driver: vm('guest', (thread) => {
      thread.expect('binding the interface', new SecurityManager(thread, 'A').bind('guest'));
      const driver = new GuestDriver(thread, 'A');
      const errno = driver.isTrusted() ? null : driver.enterTrusted();
      thread.expect('the switch to T=1', errno, null, 'EBUSY');
      if (errno === null) thread.expect('the switch back', driver.leaveTrusted(), null, 'EBUSY');
    }),

    'second queue': vm('guest', (thread) => {
      const driver = new GuestDriver(thread, 'A');
      const address = driver.map(buffer);
      if (typeof address !== 'number') return;
      driver.dma('read', address);
      thread.expect('the unmap', driver.unmap(address));
    }),

    A: device('A', (dev) => dev.serve(1)),
  }),
});
