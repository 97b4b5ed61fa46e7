/** The unmap that lets the pages go first: between unpin and invalidation a device still reaches them through the IOTLB. */
import { Area, areaIova } from '../iopt-area.ts';
import { dropFill } from '../pages.ts';
import { high, low } from '../u64.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'unpins, and so may free, the frames of an area before the invalidation of its translations has completed',
  source: 'model-derived: I4 and D7 of the specification turned round (the order of iopt_area_unfill_domains)',
  caughtBy: 'D7',
  iopt: {
    emptyArea(kernel, domain, area) {
      const memory = kernel.memory;
      const pages = Area.transit.peek(memory, area);
      const iova = areaIova(kernel, area);
      const count = Area.pageCount.peek(memory, area);
      kernel.driver.unmap(domain, high(iova), low(iova), count);
      dropFill(kernel, pages, Area.firstPage.peek(memory, area), count);
      kernel.driver.sync(domain, high(iova), low(iova), count, true);
    },
  },
});
