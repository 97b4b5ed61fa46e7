/**
 * A page goes from shared to private and back while devices have it in their caches as shared: one that knows nothing of T, and one whose
 * interface runs for the guest and sends T=0 all the same.
 *
 * On this host ownership is looked up before a translation is cached and not again, so that all depends on the flush (SEMANTICS f.3 X2).
 * What is judged is what devices reach; seed 003 has the flush itself judged (T6). Forward-looking: 7.2 converts nothing under a device.
 */
import { ConfidentialGuest } from '../actors/confidential-guest.ts';
import { GuestDriver } from '../actors/guest-driver.ts';
import { SecurityManager } from '../actors/security-manager.ts';
import { scenario } from '../scenario.ts';

const pageBytes = 4096;
const pages = 6;
const bounce = [2];
const converted = 3;
const secret = 0x5ec7e7;
const rubbish = 0xbad;

export default scenario({
  title: 'a page becomes private while devices have it cached as shared (forward-looking)',
  seed: '003',
  race: { number: 8, buggy: 'cc-convert-vs-dma' },
  correctIs: 'a design: both caches are flushed before a page has its new role; nothing of it is in 7.2 (forward-looking)',
  variants: [],
  holds: ['D10', 'T1', 'T2', 'T3', 'T8'],
  host: { confidential: { checksHits: false } },

  world(w) {
    const vmm = w.confidentialGuest('guest', pages, { shared: [...bounce, converted] });
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('guest'), pages * pageBytes);
    for (const name of ['A', 'B']) vmm.assign(w.device(name), iommufd, ioas);
    w.secure('A');
    w.guestDriver('A', 'guest', bounce);
    return {};
  },

  actors: ({ vm, device }) => ({
    guest: vm('guest', (thread) => {
      thread.expect('binding the interface', new SecurityManager(thread, 'A').bind('guest'));
      const driver = new GuestDriver(thread, 'A');
      if (!driver.isTrusted()) thread.expect('the switch to T=1', driver.enterTrusted());
      const guest = new ConfidentialGuest(thread, 'guest');
      thread.expect('making the page private', guest.makePrivate(converted));
      guest.store(converted, secret);
      thread.check(guest.load(converted) === secret, 'somebody wrote to a private page');
      guest.store(converted, 0);
      thread.expect('making the page shared', guest.makeShared(converted));
    }),

    A: device('A', (dev) => {
      for (let i = 0; i < 2; i++) {
        if (dev.readUntrusted(converted * pageBytes, 64) === 0) dev.check(dev.word(0) !== secret, 'read a secret');
      }
    }),

    B: device('B', (dev) => {
      dev.setWord(0, rubbish);
      for (let i = 0; i < 2; i++) dev.write(converted * pageBytes, 64);
    }),
  }),
});
