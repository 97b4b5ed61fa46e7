/** Forward-looking (seed 003, RACES 96): the guest has a page in its new role while IOTLBs still have it in the old one. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'converts a page between private and shared without a flush of the IOMMU\'s caches',
  source: 'RACES cc-convert-vs-dma, seed 003 (model-derived; forward-looking, nothing of it is in 7.2)',
  caughtBy: 'T6',
  confidential: { flushConverted() {} },
});
