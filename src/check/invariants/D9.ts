/** D9, no IOVA twice: the DMA API gives an address of a domain to one mapping at a time. (That areas of an IOAS do not overlap is P5's.) */
import { LeavesCleared, TablesFreed } from '../../drivers/events.ts';
import { DmaMapped, DmaUnmapped } from '../../kernel/events.ts';
import { pageNumber } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

/** Pages that are mapped, by the root of their domain. */
type Live = Map<number, Set<number>>;

export default invariant<Live>({
  id: 'D9',
  claim: 'an IOVA that the DMA API has given to a mapping is given to no other before its entries were cleared',
  events: [DmaMapped, LeavesCleared, DmaUnmapped, TablesFreed],
  start: () => new Map(),
  step(live, event) {
    if (event.kind === TablesFreed.kind) live.delete(TablesFreed.get.root(event));
    else {
      const { get } = event.kind === DmaMapped.kind ? DmaMapped : event.kind === LeavesCleared.kind ? LeavesCleared : DmaUnmapped;
      const pages = live.get(get.root(event)) ?? new Set();
      const first = pageNumber(get.iovaHigh(event), get.iovaLow(event));
      for (let page = first; page < first + get.pages(event); page++) {
        if (event.kind !== DmaMapped.kind) pages.delete(page);
        else if (pages.has(page)) return breach(`iova 0x${(page * 4096).toString(16)} of the domain with root table 0x${get.root(event).toString(16)} is mapped by two`);
        else pages.add(page);
      }
      if (event.kind === DmaMapped.kind) live.set(get.root(event), pages);
    }
    return null;
  },
});
