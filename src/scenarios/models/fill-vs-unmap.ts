/** Model: `stale-hit` as it should be: a fill and an unmap each take the lock. Nothing breaks, in 8 classes of schedules. */
import { mutex } from '#hostmem/locks';
import { object, u32 } from '#hostmem/struct';
import { scenario } from '../../scenario.ts';

const Cache = object('FilledCache', { lock: mutex, table: u32, cached: u32, unmapped: u32 });

export default scenario({
  title: 'a fill and an unmap take one lock: no hit after the unmap',
  seed: null,
  variants: [],
  holds: [],

  world(w) {
    w.process('model');
    const cache = Cache.create(w.host.kernel);
    Cache.table.poke(w.host.kernel, cache, 7);
    return { cache };
  },

  actors: ({ vm }) => ({
    device: vm('model', (actor, { cache }) => {
      const { kernel } = actor.host;
      for (let translation = 0; translation < 2; translation++) {
        const isUnmapped = Cache.unmapped.load(kernel, cache) !== 0;
        const isHit = Cache.cached.load(kernel, cache) !== 0;
        actor.check(!(isHit && isUnmapped), 'the cache hits after the unmap has returned');
        if (isHit) continue;
        Cache.lock.acquire(kernel, cache);
        const page = Cache.table.load(kernel, cache);
        if (page !== 0) Cache.cached.store(kernel, cache, page);
        Cache.lock.release(kernel, cache);
      }
    }),
    unmapper: vm('model', ({ host: { kernel } }, { cache }) => {
      Cache.lock.acquire(kernel, cache);
      Cache.table.store(kernel, cache, 0);
      Cache.cached.store(kernel, cache, 0);
      Cache.lock.release(kernel, cache);
      Cache.unmapped.store(kernel, cache, 1);
    }),
  }),
});
