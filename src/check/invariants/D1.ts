/** D1, strict unmap: what was unmapped is not reached any more, but through a mapping that began later. */
import { dma } from '../../hardware/events.ts';
import { AreaPlaced, DomainJoined, DomainLeft, UnmapReturned } from '../../kernel/events.ts';
import { frameText, functionText, iovaPage, iovaText, pageNumber } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

interface Unmapped {
  /** Which IOAS a domain translates for, by root frame: `<process>.<ioas id>`. */
  readonly ioasOfRoot: Map<number, string>;
  /** Pages whose unmap has returned and that nobody has begun to map again, by IOAS. */
  readonly gone: Map<string, Set<number>>;
}

/** Pages remembered for each IOAS; the oldest are forgotten first. */
const remembered = 4096;

export default invariant<Unmapped>({
  id: 'D1',
  claim: 'after an unmap has returned, no DMA completes through that IOVA range of that IOAS, but by a later mapping',
  events: [DomainJoined, DomainLeft, AreaPlaced, UnmapReturned, dma],
  start: (view) => ({ ioasOfRoot: new Map(view.beginning.ioasOfRoot), gone: new Map() }),
  step(state, event) {
    if (event.kind === dma.kind) {
      if (dma.get.frame(event) === 0) return null;
      const ioas = state.ioasOfRoot.get(dma.get.root(event));
      if (ioas === undefined || state.gone.get(ioas)?.has(iovaPage(event)) !== true) return null;
      return breach(`a DMA of ${functionText(event)} completed through ${iovaText(event)} into ${frameText(event)} after its unmap had returned`);
    }
    if (event.kind === DomainJoined.kind) {
      state.ioasOfRoot.set(DomainJoined.get.root(event), ioasName(DomainJoined.get.process(event), DomainJoined.get.ioas(event)));
    } else if (event.kind === DomainLeft.kind) state.ioasOfRoot.delete(DomainLeft.get.root(event));
    else if (event.kind === AreaPlaced.kind) {
      const ioas = ioasName(AreaPlaced.get.process(event), AreaPlaced.get.ioas(event));
      forget(state, ioas, pageNumber(AreaPlaced.get.iovaHigh(event), AreaPlaced.get.iovaLow(event)), AreaPlaced.get.pages(event));
    } else if (UnmapReturned.get.errno(event) === 0) {
      const ioas = ioasName(UnmapReturned.get.process(event), UnmapReturned.get.ioas(event));
      remember(state, ioas, pageNumber(UnmapReturned.get.iovaHigh(event), UnmapReturned.get.iovaLow(event)), UnmapReturned.get.pages(event));
    }
    return null;
  },
});

const ioasName = (process: number, id: number): string => `${process}.${id}`;

function forget({ gone }: Unmapped, ioas: string, first: number, pages: number): void {
  const set = gone.get(ioas);
  if (set === undefined) return;
  // A range may be far larger than what is remembered.
  for (const page of set) if (page >= first && page < first + pages) set.delete(page);
}

function remember({ gone }: Unmapped, ioas: string, first: number, pages: number): void {
  let set = gone.get(ioas);
  if (set === undefined) gone.set(ioas, (set = new Set()));
  for (let page = first; page < first + Math.min(pages, remembered); page++) set.add(page);
  for (const oldest of set) {
    if (set.size <= remembered) break;
    set.delete(oldest);
  }
}
