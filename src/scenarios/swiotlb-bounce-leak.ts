/**
 * Two drivers' pages go through the bounce pages of a confidential guest, which devices with T=0 can see. The device writes a line, all of the bounce page is copied back: it has to hold
 * what the page held, and nothing of the transfer before.
 */
import { ConfidentialGuest } from '../actors/confidential-guest.ts';
import { GuestDriver } from '../actors/guest-driver.ts';
import { scenario } from '../scenario.ts';

const pages = 16;
const bounce = [2, 3];
const [first, second, ofSecondQueue] = [5, 6, 7];
const secret = 0x5ec7e7;

export default scenario({
  title: 'pages take turns in the bounce pages of a confidential guest, and a device writes a part of each',
  seed: null,
  variants: ['swiotlb-bounce-leak'],
  holds: ['D10', 'O1', 'O2', 'T1', 'T4', 'T7'],
  host: { confidential: { checksHits: false } },

  world(w) {
    const vmm = w.confidentialGuest('guest', pages, { shared: bounce });
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('guest'), pages * 4096);
    vmm.assign(w.device('A'), iommufd, ioas);
    w.secure('A');
    w.guestDriver('A', 'guest', bounce);
    return {};
  },

  actors: ({ vm, device }) => ({
    driver: vm('guest', (thread) => {
      const driver = new GuestDriver(thread, 'A');
      const guest = new ConfidentialGuest(thread, 'guest');
      guest.store(first, secret);
      driver.openQueue();
      for (const page of [first, second, first]) {
        const address = driver.map(page) as number;
        thread.check(driver.dma('write', address + 64) === 0, 'the device could not write');
        thread.expect('the unmap', driver.unmap(address));
      }
      driver.closeQueue();
      thread.check(guest.load(first) === secret && guest.load(second) === 0, 'a page has lost what was in it');
    }),

    'second queue': vm('guest', (thread) => new GuestDriver(thread, 'A').useQueue(ofSecondQueue)),

    A: device('A', (dev) => {
      dev.setWord(0, 0x4d4d);
      dev.serve(3);
    }),
  }),
});
