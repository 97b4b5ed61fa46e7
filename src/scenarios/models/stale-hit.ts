/** Model: a device fills the cache with what it read before the unmap began, after the unmap has invalidated. */
import { object, u32 } from '#hostmem/struct';
import { scenario } from '../../scenario.ts';

const Cache = object('StaleCache', { table: u32, cached: u32, unmapped: u32 });

export default scenario({
  title: 'a page is cached by a fill that began before the unmap, and hit after it',
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
        const page = Cache.table.load(kernel, cache);
        if (page !== 0) Cache.cached.store(kernel, cache, page);
      }
    }),
    unmapper: vm('model', ({ host: { kernel } }, { cache }) => {
      Cache.table.store(kernel, cache, 0);
      Cache.cached.store(kernel, cache, 0);
      Cache.unmapped.store(kernel, cache, 1);
    }),
  }),
});
