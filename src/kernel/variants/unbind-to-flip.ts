/** Forward-looking (seed 003): what V1 was to allow. The switch is for a device that no driver is bound to. */
import { GuestDma, hasNoMappings } from '../guest-dma.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'seed 003, Jul 2024 (Gunthorpe; forward-looking, nothing of it is in 7.2)',
  caughtBy: null,
  confidential: {
    mayFlip: (kernel, dma) => GuestDma.bound.read(kernel.memory, dma) === 0 && hasNoMappings(kernel, dma),
  },
});
