import { Host } from '#hostmem/host';
import { NULL } from '#hostmem/object';
import { TaggedCache } from '#src/hardware/tagged-cache';
import { PasidCache } from '#src/hardware/vtd/entry-caches';
import fc from 'fast-check';
import { expect, test } from 'vitest';

function cache(): PasidCache {
  const host = Host.create(1 << 16, 1 << 20);
  const made = TaggedCache.create(host.kernel);
  TaggedCache.on.poke(host.kernel, made, 1);
  return new PasidCache(host.kernel, made);
}

const words = { word0: 0, word1: 0, word2: 0 };
const put = (view: PasidCache, sourceId: number, pasid: number, domainId: number): void =>
  view.fill(sourceId, pasid, domainId, { word0: sourceId, word1: domainId, word2: pasid }, view.epoch());
const domainOf = (view: PasidCache, sourceId: number, pasid: number): number => (view.lookup(sourceId, pasid, words) ? words.word1 : 0);

test('an entry gives back the words that were filled, for its source and PASID alone', () => {
  const view = cache();
  put(view, 0x108, 5, 9);
  expect(view.lookup(0x108, 5, words)).toBe(true);
  expect(words).toEqual({ word0: 0x108, word1: 9, word2: 5 });
  expect([domainOf(view, 0x108, 6), domainOf(view, 0x109, 5), domainOf(view, 0x108, 5 + 64)]).toEqual([0, 0, 0]);
});

test('each invalidation drops what it names and nothing else', () => {
  const keys = [0x100, 0x108, 0x110].flatMap((sourceId) => [0, 1, 2].map((pasid) => ({ sourceId, pasid })));
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 9, maxLength: 9 }), fc.constantFrom('all', 'domain', 'pasid'), fc.integer({ min: 1, max: 3 }), fc.nat(2), (domains, kind, domainId, pasid) => {
      const view = cache();
      keys.forEach((key, index) => put(view, key.sourceId, key.pasid, domains[index]!));
      const before = keys.map((key) => domainOf(view, key.sourceId, key.pasid));
      if (kind === 'all') view.invalidateAll();
      else if (kind === 'domain') view.invalidateDomain(domainId);
      else view.invalidatePasid(domainId, pasid);
      const gone = (key: { pasid: number }, domain: number): boolean => kind === 'all' || (domain === domainId && (kind === 'domain' || key.pasid === pasid));
      const expected = keys.map((key, index) => (gone(key, before[index]!) ? 0 : before[index]!));
      expect(keys.map((key) => domainOf(view, key.sourceId, key.pasid))).toEqual(expected);
    }),
  );
});

test('a fill is discarded when an invalidation began since its entry was read, whatever that covered', () => {
  const view = cache();
  const epoch = view.epoch();
  view.invalidatePasid(77, 3);
  view.fill(0x108, 5, 2, { word0: 1, word1: 2, word2: 3 }, epoch);
  expect(view.lookup(0x108, 5, words)).toBe(false);
  put(view, 0x108, 5, 2);
  expect(view.lookup(0x108, 5, words)).toBe(true);
});

test('a unit without a PASID cache caches nothing and has nothing to drop', () => {
  const host = Host.create(1 << 16, 1 << 20);
  const view = new PasidCache(host.kernel, NULL);
  view.fill(0x108, 5, 2, { word0: 1, word1: 2, word2: 3 }, 0);
  view.invalidateAll();
  expect(view.lookup(0x108, 5, words)).toBe(false);
});
