/**
 * A confidential guest asks for memory that a device may see, and the host refuses when one page is shared already. What becomes of it? The
 * guest's allocator must not have it back: the next owner would keep secrets there.
 */
import { ConfidentialGuest } from '../actors/confidential-guest.ts';
import type { Vm } from '../actors/vm.ts';
import { scenario } from '../scenario.ts';

const pageBytes = 4096;
const pages = 10;
const free = [4, 5, 6, 7, 8, 9];

export default scenario({
  title: 'the host refuses a conversion midway, and the guest has pages of which it does not know who sees them',
  seed: null,
  variants: ['cc-shared-returned-to-allocator'],
  holds: ['D10', 'T1', 'T5', 'T6'],
  host: { confidential: { checksHits: true } },

  world(w) {
    const vmm = w.confidentialGuest('guest', pages, { free });
    w.refuseConversions('guest', 1);
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('guest'), pages * pageBytes);
    vmm.assign(w.device('B'), iommufd, ioas);
    return {};
  },

  actors: ({ vm, device }) => ({
    /** The first of two drivers to ask for its second page meets the refusal; it goes on without. */
    'one driver': vm('guest', (thread) => shareAndTakeBack(thread)),
    'another driver': vm('guest', (thread) => shareAndTakeBack(thread)),

    B: device('B', (dev) => {
      for (const page of free.slice(0, 3)) dev.read(page * pageBytes, 64);
    }),
  }),
});

function shareAndTakeBack(thread: Vm): void {
  const guest = new ConfidentialGuest(thread, 'guest');
  const first = thread.obtain('the allocation', guest.allocateShared(2), 'EIO');
  if (first !== null) thread.expect('taking the pages back', guest.freeShared(first, 2));
}
