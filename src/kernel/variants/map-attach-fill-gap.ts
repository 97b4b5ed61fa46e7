/** The map that fills the domains and becomes a mapping under two holds of `domainsRwsem`. */
import { Ioas } from '../ioas.ts';
import { Area } from '../iopt-area.ts';
import { fillDomains } from '../iopt-fill.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'lets go of the domains between filling them and making the area a mapping: a domain that joins meanwhile misses it',
  source: 'injected: the locking contract of io_pagetable.c (domains_rwsem over fill and publication)',
  caughtBy: 'P1',
  iopt: {
    fillAndPublish(kernel, ioas, areas) {
      const memory = kernel.memory;
      Ioas.domainsRwsem.acquireRead(memory, ioas);
      try {
        for (const area of areas) fillDomains(kernel, ioas, area);
      } finally {
        Ioas.domainsRwsem.releaseRead(memory, ioas);
      }
      Ioas.iovaRwsem.acquireWrite(memory, ioas);
      for (const area of areas) Area.pages.write(memory, area, Area.transit.peek(memory, area));
      Ioas.iovaRwsem.releaseWrite(memory, ioas);
    },
  },
});
