import { Descriptor } from '#src/hardware/vtd/descriptors';
import { vtdOperations } from '#src/drivers/vtd/operations';
import { expect, test } from 'vitest';
import { Driven } from './driven.ts';

test('holds: domain ids come and go, and no cache remembers one that is free', async () => {
  for (const iommu of ['vtd-legacy', 'vtd-scalable', 'vtd-first-stage'] as const) {
    const driven = await Driven.create({ iommu }, {}, ['C5']);
    driven.live();
    expect(driven.verdict).toBeNull();
  }
});

test.each([['vtd-legacy', Descriptor.CONTEXT_CACHE], ['vtd-scalable', Descriptor.PASID_CACHE], ['vtd-legacy', Descriptor.IOTLB]] as const)('breaks: %s without descriptors of type %i', async (iommu, type) => {
  const driven = await Driven.create({ iommu }, {
    submit(vtd, unit, batch) {
      const kept = Array.from({ length: batch.length }, (_, i) => [0, 1, 2, 3].map((word) => batch.word(i, word)) as [number, number, number, number]);
      batch.clear();
      for (const words of kept) if ((words[0] & 15) !== type) batch.push(...words);
      return vtdOperations.submit(vtd, unit, batch);
    },
  }, ['C5']);
  driven.live();
  expect(driven.verdict?.message).toMatch(/^domain id \d+ of unit 0 is free, but its caches hold something under it$/);
});
