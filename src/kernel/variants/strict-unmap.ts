/** The strict mode of the DMA API, in the place of the queue: the flush is over, and the IOVA free, when an unmap returns. */
import { DmaDomain, flushAtOnce, Timer } from '../dma-iommu.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'dma-iommu of Linux 7.2.13 with iommu.strict=1',
  caughtBy: null,
  judgedBy: ['D1'],
  dma: {
    queueIova(kernel, dma, page, pages) {
      flushAtOnce(kernel, dma, page, pages);
      // The timer of a story comes all the same, and finds nothing to do.
      DmaDomain.timer.store(kernel.memory, dma, Timer.ARMED);
    },
  },
});
