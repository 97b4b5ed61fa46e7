import { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { firstStageTag, Iotlb, IotlbView } from '#src/hardware/iotlb';
import fc from 'fast-check';
import { expect, test } from 'vitest';

function cache(): IotlbView {
  const host = Host.create(1 << 16, 1 << 20);
  const iotlb = Iotlb.create(host.kernel);
  Iotlb.on.poke(host.kernel, iotlb, 1);
  return new IotlbView(host.kernel, iotlb);
}

const put = (iotlb: IotlbView, domainId: number, page: number, high: number = 0): void =>
  iotlb.fill(domainId, high, page << 12, (page + 1) as Frame, 3, 9 as Frame, iotlb.epoch());
const has = (iotlb: IotlbView, domainId: number, page: number, high: number = 0): boolean => iotlb.lookup(domainId, high, page << 12);

test('an entry gives back what was filled, for its domain and page alone', () => {
  const iotlb = cache();
  iotlb.fill(5, 0x7f, 0xabcde000 | 0, 0x1234 as Frame, 2, 77 as Frame, iotlb.epoch());
  expect(iotlb.lookup(5, 0x7f, 0xabcdeffc | 0)).toBe(true);
  expect([iotlb.frame, iotlb.permissions, iotlb.root]).toEqual([0x1234, 2, 77]);
  expect(iotlb.lookup(6, 0x7f, 0xabcde000 | 0)).toBe(false);
  expect(iotlb.lookup(5, 0x7e, 0xabcde000 | 0)).toBe(false);
  expect(iotlb.lookup(5, 0x107f, 0xabcde000 | 0)).toBe(false);
  expect(iotlb.lookup(5, 0x7f, 0xabcdf000 | 0)).toBe(false);
});

test('four pages of one set stay, a fifth takes the place of the oldest', () => {
  const iotlb = cache();
  for (let i = 0; i < 4; i++) put(iotlb, 1, i * 64);
  expect([0, 1, 2, 3].map((i) => has(iotlb, 1, i * 64))).toEqual([true, true, true, true]);
  put(iotlb, 1, 4 * 64);
  expect([0, 1, 2, 3, 4].map((i) => has(iotlb, 1, i * 64))).toEqual([false, true, true, true, true]);
});

test('a page is filled anew in its own place', () => {
  const iotlb = cache();
  for (let i = 0; i < 4; i++) put(iotlb, 1, i * 64);
  iotlb.fill(1, 0, 64 << 12, 500 as Frame, 1, 9 as Frame, iotlb.epoch());
  expect(has(iotlb, 1, 64) && iotlb.frame === 500 && iotlb.permissions === 1).toBe(true);
  expect([0, 2, 3].map((i) => has(iotlb, 1, i * 64))).toEqual([true, true, true]);
});

test('what a thread hit before it hits no more once another thread has invalidated it, and still hits what was not', () => {
  const { kernel } = Host.create(1 << 16, 1 << 20);
  const created = Iotlb.create(kernel);
  Iotlb.on.poke(kernel, created, 1);
  const [one, other] = [new IotlbView(kernel, created), new IotlbView(kernel, created)];
  for (const page of [1, 2]) put(other, 1, page);
  expect([1, 2, 1, 2].map((page) => has(one, 1, page))).toEqual([true, true, true, true]);
  other.invalidatePages(1, 0, 1 << 12, 0);
  expect([1, 2, 1, 2].map((page) => has(one, 1, page))).toEqual([false, true, false, true]);
  other.invalidateDomain(1);
  expect(has(one, 1, 2)).toBe(false);
});

test('a page that a thread has hit and fills anew, with more permissions, it hits with these', () => {
  const iotlb = cache();
  iotlb.fill(1, 0, 7 << 12, 70 as Frame, 1, 9 as Frame, iotlb.epoch());
  expect([has(iotlb, 1, 7), has(iotlb, 1, 7), iotlb.permissions]).toEqual([true, true, 1]);
  iotlb.fill(1, 0, 7 << 12, 70 as Frame, 3, 9 as Frame, iotlb.epoch());
  expect([has(iotlb, 1, 7), iotlb.permissions, has(iotlb, 1, 7), iotlb.permissions]).toEqual([true, 3, true, 3]);
});

test('pages that share a place in a thread\'s own lines are told apart, as are domains', () => {
  const iotlb = cache();
  for (const page of [3, 3 + 128, 3 + 256]) put(iotlb, 1, page);
  for (const page of [3, 3 + 128, 3, 3 + 256, 3 + 128]) expect([has(iotlb, 1, page), iotlb.frame]).toEqual([true, page + 1]);
  expect(has(iotlb, 2, 3)).toBe(false);
});

test('each invalidation drops what it names and nothing else', () => {
  const pages = [0, 1, 5, 63, 64, 65, 0x1ff, 0x200, 0x5000, 0xfffff];
  const keys = [1, 2, 3].flatMap((domainId) => pages.flatMap((page) => [0, 0x41].map((high) => ({ domainId, page, high }))));
  const scope = fc.oneof(
    fc.constant({ kind: 'all' as const, domainId: 0, page: 0, high: 0, order: 0 }),
    fc.record({ kind: fc.constant('domain' as const), domainId: fc.integer({ min: 1, max: 3 }), page: fc.constant(0), high: fc.constant(0), order: fc.constant(0) }),
    fc.record({ kind: fc.constant('pages' as const), domainId: fc.integer({ min: 1, max: 3 }), page: fc.constantFrom(...pages), high: fc.constantFrom(0, 0x41), order: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.shuffledSubarray(keys, { maxLength: 30 }), scope, (filled, { kind, domainId, page, high, order }) => {
      const iotlb = cache();
      for (const key of filled) put(iotlb, key.domainId, key.page, key.high);
      const there = filled.filter((key) => has(iotlb, key.domainId, key.page, key.high));
      if (kind === 'all') iotlb.invalidateAll();
      else if (kind === 'domain') iotlb.invalidateDomain(domainId);
      else iotlb.invalidatePages(domainId, high, page << 12, order);
      const inBlock = (key: { page: number; high: number }): boolean => key.high === high && Math.floor(key.page / 2 ** order) === Math.floor(page / 2 ** order);
      const kept = there.filter((key) => kind !== 'all' && (key.domainId !== domainId || (kind === 'pages' && !inBlock(key))));
      expect(there.filter((key) => has(iotlb, key.domainId, key.page, key.high))).toEqual(kept);
    }),
    { numRuns: 300, seed: 11 },
  );
});

test('a fill with an epoch from before an invalidation leaves nothing', () => {
  const iotlb = cache();
  const epoch = iotlb.epoch();
  iotlb.invalidatePages(9, 0, 0x4000, 0);
  iotlb.fill(1, 0, 0x1000, 3 as Frame, 3, 9 as Frame, epoch);
  expect(has(iotlb, 1, 1)).toBe(false);
  put(iotlb, 1, 1);
  expect(has(iotlb, 1, 1)).toBe(true);
});

test('an IOTLB that is off never hits', () => {
  const host = Host.create(1 << 16, 1 << 20);
  const iotlb = new IotlbView(host.kernel, Iotlb.create(host.kernel));
  put(iotlb, 1, 1);
  expect(has(iotlb, 1, 1)).toBe(false);
});

test('a PASID is part of the tag, and so is the stage', () => {
  const iotlb = cache();
  const kinds = [7, 8, firstStageTag | 7, firstStageTag | 8];
  const fillAll = (): void => kinds.forEach((tag, index) => iotlb.fill(3, 0, 0x1000, (100 + index) as Frame, 3, 9 as Frame, iotlb.epoch(), tag));
  const left = (): number[] => kinds.map((tag) => (iotlb.lookup(3, 0, 0x1000, tag) ? iotlb.frame : 0));
  const after = (invalidate: () => void): number[] => {
    fillAll();
    expect(left()).toEqual([100, 101, 102, 103]);
    invalidate();
    return left();
  };
  expect(iotlb.lookup(3, 0, 0x1000)).toBe(false);
  expect(after(() => iotlb.invalidatePasid(3, 7))).toEqual([100, 101, 0, 103]);
  expect(after(() => iotlb.invalidatePasid(4, 7))).toEqual([100, 101, 102, 103]);
  expect(after(() => iotlb.invalidatePasidPages(3, 8, 0, 0, 1))).toEqual([100, 101, 102, 0]);
  expect(after(() => iotlb.invalidatePages(3, 0, 0, 8))).toEqual([0, 0, 102, 103]);
  expect(after(() => iotlb.invalidateDomain(3))).toEqual([0, 0, 0, 0]);
});
