/** Forward-looking (seed 003, RACES 93): the check for live mappings without the lock that keeps it true. */
import { fail } from '../errno.ts';
import { GuestDma, hasNoMappings, startTrusted } from '../guest-dma.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'looks for live mappings, lets go of the lock, and then switches to T=1: a page is mapped in between',
  source: 'seed 003, Jul 2024; RACES tdisp-flip-while-mapped (model-derived; forward-looking, nothing of it is in 7.2)',
  caughtBy: 'T4',
  confidential: {
    enterTrusted(kernel, dma) {
      GuestDma.lock.acquire(kernel.memory, dma);
      const mayFlip = hasNoMappings(kernel, dma);
      GuestDma.lock.release(kernel.memory, dma);
      if (!mayFlip) fail('EBUSY', 'the driver has live mappings');
      startTrusted(kernel, dma);
    },
  },
});
