/** The lazy unmap whose stamp lets a flush count that began before its entries were cleared. */
import { addToRing, DmaDomain } from '../dma-iommu.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'stamps a queued IOVA with the flushes that are over, so that one that is under way frees it',
  source: 'model-derived: the counters of fb418dab8a4f the other way round (fq-counter-order)',
  caughtBy: 'D2',
  dma: {
    queueIova: (kernel, dma, page, pages) => addToRing(kernel, dma, page, pages, DmaDomain.finished.load(kernel.memory, dma)),
  },
});
