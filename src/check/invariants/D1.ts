/**
 * D1, strict unmap: what was unmapped, of an IOAS or by a driver of the kernel, is not reached any more, but through a mapping that began later. A guest
 * that has a first stage of its own is promised the same of its IOVAs, from the moment at which its driver's unmap has returned.
 */
import type { Cursor } from '#hostmem/history';
import type { Frame } from '#hostmem/memory';
import { LeavesCleared } from '../../drivers/events.ts';
import { dma, nestedDma, pasidDma } from '../../hardware/events.ts';
import { firstRootOf, isNestedName, nestedName, secondRootOf } from '../../hardware/nested-line.ts';
import {
  AreaPlaced, DmaMapped, DmaUnmapped, DomainJoined, DomainLeft, GuestMaps, GuestUnmapped, UnmapCalled, UnmapReturned,
} from '../../kernel/events.ts';
import { frameText, functionText, iovaPage, iovaText, isDma, pageNumber } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

interface Unmapped {
  /** Which IOAS a domain translates for, by root frame: `<process>.<ioas id>`. */
  readonly ioasOfRoot: Map<number, string>;
  /** Pages whose unmap has returned and that nobody has begun to map again, by IOAS. */
  readonly gone: Map<string, Set<number>>;
  /** When the unmap that an actor is in began, and the mappings that took a place since: those it leaves alone. */
  readonly began: Map<number, number>;
  placed: { ioas: string; first: number; pages: number; stamp: number }[];
  /** Pages that the DMA API has cleared and not mapped again, by root: of a domain that drivers map in. */
  readonly cleared: Map<number, Set<number>>;
}

/** Pages remembered for each IOAS; the oldest are forgotten first. */
const remembered = 4096;

export default invariant<Unmapped>({
  id: 'D1',
  claim: "after an unmap has returned, no DMA completes through that IOVA range of that IOAS (or of the DMA API, or of a guest's own tables), but by a later mapping",
  events: [
    DomainJoined, DomainLeft, AreaPlaced, UnmapCalled, UnmapReturned, DmaMapped, LeavesCleared, DmaUnmapped, GuestMaps, GuestUnmapped, dma, pasidDma, nestedDma,
  ],
  start: (view) => ({ ioasOfRoot: new Map(view.beginning.ioasOfRoot), gone: new Map(), began: new Map(), placed: [], cleared: new Map() }),
  step(state, event) {
    // In the second of two stages it is the guest's address that the IOAS maps; the words of all these events are read alike.
    if (isDma(event) || event.kind === nestedDma.kind) {
      if (dma.get.frame(event) === 0) return null;
      const ioas = spaceOf(state, dma.get.root(event));
      if (ioas === undefined || state.gone.get(ioas)?.has(iovaPage(event)) !== true) return null;
      const where = event.kind === nestedDma.kind ? `guest address 0x${(iovaPage(event) * 4096).toString(16)}` : iovaText(event);
      return breach(`a DMA of ${functionText(event)} completed through ${where} into ${frameText(event)} after its unmap had returned`);
    }
    if (event.kind === DmaMapped.kind || event.kind === LeavesCleared.kind || event.kind === DmaUnmapped.kind) ofDriver(state, event);
    else if (event.kind === DomainJoined.kind) {
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

/** An unmap of the DMA API, which strict mode promises the same of: a domain that drivers map in stands for an IOAS. */
function ofDriver(state: Unmapped, event: Cursor): void {
  const { get } = event.kind === DmaMapped.kind ? DmaMapped : event.kind === LeavesCleared.kind ? LeavesCleared : DmaUnmapped;
  const root = get.root(event);
  const [first, pages] = [pageNumber(get.iovaHigh(event), get.iovaLow(event)), get.pages(event)];
  const name = `DMA API ${root}`;
  if (event.kind === DmaMapped.kind) {
    state.ioasOfRoot.set(root, name);
    if (!state.cleared.has(root)) state.cleared.set(root, new Set());
    forget(state, name, first, pages);
  }
  const cleared = state.cleared.get(root);
  if (cleared === undefined) return;
  for (let page = first; page < first + pages; page++) {
    if (event.kind === DmaMapped.kind) cleared.delete(page);
    else if (event.kind === LeavesCleared.kind) cleared.add(page);
    else if (cleared.has(page)) remember(state, name, page, 1);
  }
}

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
