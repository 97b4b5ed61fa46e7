/** Forward-looking (RACES 96): one of the two contexts is forgotten, the one that the TSM does not know of. */
import { flushTrusted } from '../flush-converted.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'flushes what the trusted tables led to and forgets the host\'s: a device with T=0 goes on writing through its cached translation',
  source: 'RACES cc-convert-vs-dma (model-derived, XSA-401\'s shape; forward-looking, nothing of it is in 7.2)',
  caughtBy: 'T1',
  confidential: { flushConverted: flushTrusted },
});
