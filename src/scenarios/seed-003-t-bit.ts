/**
 * Seed 003: a device of a confidential VM goes from T=0 to T=1. Its driver has looked at it with untrusted DMA first, and has a page mapped
 * when it wants to switch: dma_addr1 of the discussion. Beside it a second queue of the same driver maps and unmaps. After the switch the
 * guest takes a page away from the host's eyes, for the device to read, while another device goes on reading it with T=0.
 *
 * Forward-looking: 7.2 has no such switch, iommufd knows no T, and nobody calls pci_tsm_bind. `correct` is what V1 was to allow: a switch
 * without live mappings, bus master off.
 */
import { GuestDriver } from '../actors/guest-driver.ts';
import { ConfidentialGuest } from '../actors/confidential-guest.ts';
import { SecurityManager } from '../actors/security-manager.ts';
import type { Vm } from '../actors/vm.ts';
import { splitAt } from '../drivers/tsm/link-tsm.ts';
import { scenario } from '../scenario.ts';

const pageBytes = 4096;
const pages = 16;
/** Pages of the guest, by number: three for bouncing, what the driver gives to the device, and one that changes its role. */
const bounce = [2, 3, 4];
const report = 5;
const buffer = 6;
const ofSecondQueue = 7;
const converted = 8;

const measurement = 0x4d4d;
const secret = 0x5ec7e7;

export default scenario({
  title: 'a device of a confidential VM goes from T=0 to T=1 under its driver, while a page changes hands (forward-looking)',
  seed: '003',
  correctIs: 'a design, V1 of Jul 2024: no switch with live mappings; nothing of it is in 7.2 (forward-looking)',
  variants: ['bypass-on-t0', 'one-table', 'split-at-x', 'c-bit-per-mapping', 'flip-while-mapped', 'unbind-to-flip', 'convert-without-flush'],
  holds: ['D10', 'O1', 'O2', 'T1', 'T2', 'T3', 'T4', 'T6', 'T8'],
  host: { confidential: { checksHits: false } },

  world(w) {
    const vmm = w.confidentialGuest('guest', pages, { shared: [...bounce, converted] });
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    // Requests with T=0 find the guest's memory at its guest addresses, and again above X. What of it is private is out of their reach.
    for (const iova of [0, splitAt]) vmm.map(iommufd, ioas, iova, w.guestMemory('guest'), pages * pageBytes);
    for (const name of ['A', 'B']) vmm.assign(w.device(name), iommufd, ioas);
    w.secure('A');
    w.guestDriver('A', 'guest', bounce);
    return {};
  },

  actors: ({ vm, device }) => ({
    driver: vm('guest', (thread) => {
      thread.expect('binding the interface', new SecurityManager(thread, 'A').bind('guest'));
      const driver = new GuestDriver(thread, 'A');

      // Attestation, and a look at what the device says of itself, by DMA that anybody can see.
      thread.expect('attestation', driver.attest());
      const seen = driver.map(report) as number;
      thread.check(driver.dma('write', seen) === 0, 'the device could not write its measurement');
      driver.unmap(seen);
      thread.check(new ConfidentialGuest(thread, 'guest').load(report) === measurement, 'the measurement is another one');
      driver.openQueue();

      const dmaAddr1 = driver.map(buffer) as number;
      thread.check(driver.dma('read', dmaAddr1) === 0, 'dma_addr1 was of no use before the switch');
      if (!driver.isTrusted()) driver.enterTrusted();
      // Where the switch was possible, this is what it did to an address that the driver still has.
      driver.dma('read', dmaAddr1);
      driver.unmap(dmaAddr1);

      if (!driver.isTrusted()) driver.enterTrusted();
      if (!driver.isTrusted() && driver.unbind() === null) {
        driver.enterTrusted();
        driver.bind();
      }
      if (driver.isTrusted()) keepSecret(thread, driver);
      else thread.check(use(driver, buffer), 'the device is of no use without the switch');
      driver.closeQueue();
      thread.expect('stopping the interface', driver.leaveTrusted());
    }),

    A: device('A', (dev) => {
      dev.setWord(0, measurement);
      dev.serve(4);
    }),

    /** Maps whenever it likes; without a driver there is nothing to map for. */
    'second queue': vm('guest', (thread) => new GuestDriver(thread, 'A').useQueue(ofSecondQueue)),

    /** Knows nothing of T. */
    B: device('B', (dev) => {
      for (let i = 0; i < 3; i++) {
        if (dev.read(converted * pageBytes, 64) === 0) dev.check(dev.word(0) !== secret, 'read a secret');
      }
    }),
  }),
});

/** The guest takes a page for itself, lets the device read what is in it, and gives it up again, empty. */
function keepSecret(thread: Vm, driver: GuestDriver): void {
  const guest = new ConfidentialGuest(thread, 'guest');
  thread.expect('making the page private', guest.makePrivate(converted));
  guest.store(converted, secret);
  thread.check(use(driver, converted), 'dma_addr2 is of no use');
  guest.store(converted, 0);
  thread.expect('making the page shared', guest.makeShared(converted));
}

function use(driver: GuestDriver, page: number): boolean {
  const address = driver.map(page);
  return typeof address === 'number' && driver.dma('read', address) === 0 && driver.unmap(address) === null;
}
