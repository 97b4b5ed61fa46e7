/** The required sequences Q1 to Q6 of SEMANTICS d.2: as they are nobody complains; a step left out or swapped is seen by the invariant for it. Q7 and Q8 (nested parents, the drain of page requests) are variants of `nested-unmap` and `page-requests`. */
import { poke } from '#hostmem/atomics';
import { NULL } from '#hostmem/object';
import { SubmitReturned } from '#src/drivers/events';
import { CacheTag, IommuDomain } from '#src/drivers/domain';
import { IommuDevice } from '#src/drivers/driver';
import { vtdOperations, type VtdOperations } from '#src/drivers/vtd/operations';
import { pagingEntry, presentPasid } from '#src/drivers/vtd/pasid-entry';
import { replacePaging } from '#src/drivers/vtd/pasid-replace';
import { enqueue } from '#src/drivers/vtd/queue';
import type { Vtd, VtdUnit } from '#src/drivers/vtd/vtd';
import type { Batch } from '#src/drivers/vtd/batch';
import { Bits, Descriptor } from '#src/hardware/vtd/descriptors';
import type { WorldOptions } from '#src/world';
import { describe, expect, test } from 'vitest';
import { Driven } from '../check/driven.ts';

const all = ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D7'];
const kinds = ['vtd-legacy', 'vtd-scalable', 'vtd-first-stage'] as const;

async function verdictOf(options: Partial<WorldOptions>, mistake: Partial<VtdOperations>): Promise<string | undefined> {
  const driven = await Driven.create(options, mistake, all);
  driven.live();
  return driven.verdict?.invariant;
}

/** A submission without the descriptors of these types. */
const without = (...types: number[]): VtdOperations['submit'] => (vtd, unit, batch) => {
  const kept = Array.from({ length: batch.length }, (_, i) => [0, 1, 2, 3].map((word) => batch.word(i, word)) as [number, number, number, number]);
  batch.clear();
  for (const words of kept) if (!types.includes(words[0] & 15)) batch.push(...words);
  return vtdOperations.submit(vtd, unit, batch);
};

const reversed: VtdOperations['submit'] = (vtd, unit, batch) => {
  const kept = Array.from({ length: batch.length }, (_, i) => [0, 1, 2, 3].map((word) => batch.word(i, word)) as [number, number, number, number]);
  batch.clear();
  for (const words of kept.reverse()) batch.push(...words);
  return vtdOperations.submit(vtd, unit, batch);
};

function hasty(vtd: Vtd, unit: VtdUnit, batch: Batch): 0 {
  enqueue(vtd, unit, batch);
  SubmitReturned.emit(vtd.kernel, unit.number);
  return 0;
}

describe.each(kinds)('%s', (iommu) => {
  test.each([false, true])('the driver as it is breaks nothing, ATS: %s', async (ats) => {
    for (const fetchBits of [64, 128, 512] as const) expect(await verdictOf({ iommu, ats, fetchBits }, {})).toBeUndefined();
  });

  test('Q1: device TLB left out', async () => {
    expect(await verdictOf({ iommu, ats: true }, { flushDeviceTlb: () => {} })).toBe('D1');
  });

  test('Q1: device TLB before IOTLB', async () => {
    const flushRange: VtdOperations['flushRange'] = (vtd, domain, high, low, pages, leafOnly) => {
      const first = IommuDomain.firstTag.peek(vtd.kernel, domain);
      const second = first === NULL ? NULL : CacheTag.next.peek(vtd.kernel, first);
      if (second !== NULL) {
        IommuDomain.firstTag.poke(vtd.kernel, domain, second);
        CacheTag.next.poke(vtd.kernel, second, first);
        CacheTag.next.poke(vtd.kernel, first, NULL);
      }
      vtdOperations.flushRange(vtd, domain, high, low, pages, leafOnly);
    };
    expect(await verdictOf({ iommu, ats: true }, { flushRange })).toBe('C4');
  });

  test('Q1: IOTLB left out', async () => {
    expect(await verdictOf({ iommu }, { flushIotlb: () => {} })).toBe('D1');
  });

  test('Q1: fewer pages than were cleared', async () => {
    const flushRange: VtdOperations['flushRange'] = (vtd, domain, high, low, pages, leafOnly) => vtdOperations.flushRange(vtd, domain, high, low + 4096, pages, leafOnly);
    expect(await verdictOf({ iommu }, { flushRange })).toBe('C2');
  });

  test('any sequence: nobody waits', async () => {
    expect(await verdictOf({ iommu }, { submit: hasty })).toBe('C3');
  });

  test('Q3, Q6: the cache of entries left out, the IOTLB left out, all in reverse', async () => {
    expect(await verdictOf({ iommu }, { submit: without(Descriptor.CONTEXT_CACHE, Descriptor.PASID_CACHE) })).toBe('C4');
    expect(await verdictOf({ iommu }, { flushRange: () => {}, submit: without(Descriptor.IOTLB, Descriptor.PASID_IOTLB) })).toBe('C4');
    expect(await verdictOf({ iommu }, { submit: reversed })).toBe('C4');
  });
});

/** What says "all of the domain", or of the PASID, says "its pages, and no table of them". */
const leavesAlone: VtdOperations['submit'] = (vtd, unit, batch) => {
  const kept = Array.from({ length: batch.length }, (_, i) => [0, 1, 2, 3].map((word) => batch.word(i, word)) as [number, number, number, number]);
  batch.clear();
  for (const words of kept) {
    const domainId = words[0] >>> Bits.domainShift;
    if ((words[0] & 15) === Descriptor.IOTLB) batch.iotlbPages(domainId, 0, 0, unit.largestOrder, true);
    else if ((words[0] & 15) === Descriptor.PASID_IOTLB) batch.pasidIotlb(domainId, words[1], 0, 0, unit.largestOrder, true);
    else batch.push(...words);
  }
  return vtdOperations.submit(vtd, unit, batch);
};

test.each(kinds)('Q2: tables are freed behind an invalidation of leaves, %s', async (iommu) => {
  const driven = await Driven.create({ iommu }, { submit: leavesAlone }, ['C2']);
  driven.live();
  expect(driven.verdict?.invariant).toBe('C2');
  expect(await verdictOf({ iommu }, { submit: leavesAlone })).toBe('C5');
});

test.each(['vtd-scalable', 'vtd-first-stage'] as const)('Q4: present first, and a request in the middle, %s', async (iommu) => {
  const inside = (wordsInOrder: readonly number[]): Promise<Driven> => {
    const setUpPasid: VtdOperations['setUpPasid'] = (vtd, unit, device, pasid, domain, domainId) => {
      vtdOperations.setUpPasid(vtd, unit, device, pasid, domain, domainId);
      const at = presentPasid(vtd, device, pasid);
      const value = pagingEntry(vtd, domain, domainId);
      for (let word = 0; word < 3; word++) poke(vtd.ram, at + word * 8, 0);
      for (const word of wordsInOrder) {
        poke(vtd.ram, at + word * 8, value[word]!);
        driven!.dma.read(0, 0x1000, 4);
      }
      return 0;
    };
    return Driven.create({ iommu, caches: 'off' }, { setUpPasid }, all);
  };
  let driven: Driven | null = null;
  driven = await inside([2, 1, 0]);
  driven.live();
  expect(driven.verdict).toBeNull();
  driven = await inside([0, 1, 2]);
  driven.live();
  expect(driven.verdict?.invariant).toBe('C6');
});

describe.each(['vtd-scalable', 'vtd-first-stage'] as const)('%s', (iommu) => {
  test('Q3: the domain id goes back while the PASID cache has it', async () => {
    const tearDownPasid: VtdOperations['tearDownPasid'] = (vtd, _unit, device, pasid) => {
      const at = presentPasid(vtd, device, pasid);
      if (at !== 0) for (let word = 0; word < 64; word += 4) poke(vtd.ram, at + word, 0);
    };
    expect(await verdictOf({ iommu }, { tearDownPasid })).toBe('C5');
  });

  test.each(['copy', 'break', 'hitless'] as const)('Q5: a live entry is changed by policy %s, and flushed; without its PASID cache it is not', async (policy) => {
    const attachPaging: VtdOperations['attachPaging'] = (vtd, device, domain) => replacePaging(vtd, device, domain, policy);
    expect(await verdictOf({ iommu, ats: true }, { attachPaging })).toBeUndefined();
    let isReplacing = false;
    const forgetful: Partial<VtdOperations> = {
      attachPaging(vtd, device, domain) {
        isReplacing = IommuDevice.domain.peek(vtd.kernel, device) !== NULL;
        const error = replacePaging(vtd, device, domain, policy);
        isReplacing = false;
        return error;
      },
      submit: (vtd, unit, batch) => (isReplacing ? without(Descriptor.PASID_CACHE) : vtdOperations.submit)(vtd, unit, batch),
    };
    expect(await verdictOf({ iommu }, forgetful)).toBe('C5');
  });
});
