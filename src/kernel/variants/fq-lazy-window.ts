/** What lazy mode permits and strict mode promises. No function differs; more is asked of it. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'an unmap returns before its flush: until that is over the device reaches a buffer that somebody else may have by now',
  source: "dma-iommu's flush queue in Linux 7.2.13: a choice of who runs the host, and no bug",
  caughtBy: 'D1',
  judgedBy: ['D1'],
});
