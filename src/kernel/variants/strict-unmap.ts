/** The strict mode of the DMA API, in the place of the queue: the flush is over, and the IOVA free, when an unmap returns. */
import { flushAtOnce } from '../dma-iommu.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'dma-iommu of Linux 7.2.13 with iommu.strict=1',
  caughtBy: null,
  judgedBy: ['D1'],
  dma: { queueIova: flushAtOnce },
});
