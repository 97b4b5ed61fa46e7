/**
 * D1, strict unmap: what was unmapped is not reached any more, but through a mapping that began later. A guest that has a first stage of its own is
 * promised the same of its IOVAs, from the moment at which its driver's unmap has returned.
 */
import type { Cursor } from '#hostmem/history';
import type { Frame } from '#hostmem/memory';
import { dma, nestedDma } from '../../hardware/events.ts';
import { firstRootOf, isNestedName, nestedName, secondRootOf } from '../../hardware/nested-line.ts';
import { AreaPlaced, DomainJoined, DomainLeft, GuestMaps, GuestUnmapped, UnmapCalled, UnmapReturned } from '../../kernel/events.ts';
import { frameText, functionText, iovaPage, iovaText, pageNumber } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

interface Unmapped {
  /** Which IOAS a domain translates for, by root frame: `<process>.<ioas id>`. */
  readonly ioasOfRoot: Map<number, string>;
  /** Pages whose unmap has returned and that nobody has begun to map again, by IOAS. */
  readonly gone: Map<string, Set<number>>;
  /** When the unmap that an actor is in began, and the mappings that took a place since: those it leaves alone. */
  readonly began: Map<number, number>;
  placed: { ioas: string; first: number; pages: number; stamp: number }[];
}

/** Pages remembered for each IOAS; the oldest are forgotten first. */
const remembered = 4096;

export default invariant<Unmapped>({
  id: 'D1',
  claim: "after an unmap has returned, no DMA completes through that IOVA range of that IOAS, or of that guest's first stage, but by a later mapping",
  events: [DomainJoined, DomainLeft, AreaPlaced, UnmapCalled, UnmapReturned, GuestMaps, GuestUnmapped, dma, nestedDma],
  start: (view) => ({ ioasOfRoot: new Map(view.beginning.ioasOfRoot), gone: new Map(), began: new Map(), placed: [] }),
  step(state, event) {
    // In the second of two stages it is the guest's address that the IOAS maps; the words of both events are the same.
    if (event.kind === dma.kind || event.kind === nestedDma.kind) {
      if (dma.get.frame(event) === 0) return null;
      const ioas = spaceOf(state, dma.get.root(event));
      if (ioas === undefined || state.gone.get(ioas)?.has(iovaPage(event)) !== true) return null;
      const where = event.kind === dma.kind ? iovaText(event) : `guest address 0x${(iovaPage(event) * 4096).toString(16)}`;
      return breach(`a DMA of ${functionText(event)} completed through ${where} into ${frameText(event)} after its unmap had returned`);
    }
    if (event.kind === DomainJoined.kind) {
      state.ioasOfRoot.set(DomainJoined.get.root(event), ioasName(DomainJoined.get.process(event), DomainJoined.get.ioas(event)));
    } else if (event.kind === DomainLeft.kind) state.ioasOfRoot.delete(DomainLeft.get.root(event));
    else if (event.kind === AreaPlaced.kind) {
      const ioas = ioasName(AreaPlaced.get.process(event), AreaPlaced.get.ioas(event));
      const first = pageNumber(AreaPlaced.get.iovaHigh(event), AreaPlaced.get.iovaLow(event));
      if (state.began.size > 0) state.placed.push({ ioas, first, pages: AreaPlaced.get.pages(event), stamp: event.stamp });
      forget(state, ioas, first, AreaPlaced.get.pages(event));
    } else if (event.kind === GuestMaps.kind) forget(state, guestSpace(event), guestPages(event), GuestMaps.get.pages(event));
    else if (event.kind === GuestUnmapped.kind) remember(state, guestSpace(event), guestPages(event), GuestUnmapped.get.pages(event));
    else if (event.kind === UnmapCalled.kind) state.began.set(event.actor, event.stamp);
    else if (UnmapReturned.get.errno(event) !== 0) endUnmap(state, event.actor);
    else {
      const ioas = ioasName(UnmapReturned.get.process(event), UnmapReturned.get.ioas(event));
      remember(state, ioas, pageNumber(UnmapReturned.get.iovaHigh(event), UnmapReturned.get.iovaLow(event)), UnmapReturned.get.pages(event));
      const began = state.began.get(event.actor) ?? event.stamp;
      for (const later of state.placed) if (later.ioas === ioas && later.stamp > began) forget(state, ioas, later.first, later.pages);
      endUnmap(state, event.actor);
    }
    return null;
  },
});

function endUnmap(state: Unmapped, actor: number): void {
  state.began.delete(actor);
  if (state.began.size === 0) state.placed = [];
}

/** Which addresses a root translates: those of an IOAS, or of a guest, whose second stage says whose guest it is. */
function spaceOf({ ioasOfRoot }: Unmapped, root: number): string | undefined {
  if (!isNestedName(root)) return ioasOfRoot.get(root);
  const parent = ioasOfRoot.get(secondRootOf(root));
  return parent === undefined ? undefined : guestName(parent.split('.')[0]!, firstRootOf(root));
}

const guestName = (process: string, firstRoot: number): string => `guest of ${process}, root ${firstRoot}`;
const guestPages = (event: Cursor): number => pageNumber(GuestMaps.get.iovaHigh(event), GuestMaps.get.iovaLow(event));
const guestSpace = (event: Cursor): string => guestName(String(GuestMaps.get.process(event)), firstRootOf(nestedName(GuestMaps.get.root(event), 0 as Frame)));

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
