/** A flush that knows no other PASID than the RID's. */
import { CacheTag } from '../../drivers/domain.ts';
import { ridPasid } from '../../drivers/vtd/pasid-entry.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'flushes what an unmap cleared for requests without PASID alone, whatever the cache tag says',
  source: 'model-derived, no report (SEMANTICS d.2, Q1: PASID-IOTLB pages)',
  caughtBy: 'D1',
  vtd: {
    flushIotlb(vtd, _domain, tag, iovaHigh, iovaLow, order, leafOnly) {
      const unit = vtd.unit(CacheTag.unit.peek(vtd.kernel, tag));
      const batch = vtd.batch.clear();
      batch.pasidIotlb(CacheTag.domainId.peek(vtd.kernel, tag), ridPasid, iovaHigh, iovaLow, Math.min(order, unit.largestOrder), leafOnly);
      vtd.operations.submit(vtd, unit, batch);
    },
  },
});
