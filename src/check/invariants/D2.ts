/** D2, the lazy bound: what a driver unmapped is reached at most until the next flush that began later, and its IOVA is not free before. */
import { FlushCalled, FlushReturned, LeavesCleared } from '../../drivers/events.ts';
import { dma } from '../../hardware/events.ts';
import { DmaMapped, DmaUnmapped, IovaFreed } from '../../kernel/events.ts';
import { frameText, functionText, iovaPage, iovaText } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import type { Cursor } from '#hostmem/history';

/** A page that a driver has unmapped, or is about to. */
interface Gone {
  /** The stamp at which its entry was cleared. */
  readonly cleared: number;
  /** No device may reach it any more: its unmap has returned and a flush that began after it was cleared is over. */
  over: boolean;
  flushed: boolean;
}

interface State {
  /** By root and page. */
  readonly gone: Map<number, Map<number, Gone>>;
  /** When each actor's running flush began. */
  readonly begun: Map<number, number>;
}

export default invariant<State>({
  id: 'D2',
  claim: 'a page that a driver unmapped is reached at most until the next flush that began later is over (strict: until the unmap returns), and its IOVA is not free before',
  events: [DmaMapped, IovaFreed, DmaUnmapped, LeavesCleared, FlushCalled, FlushReturned, dma],
  start: () => ({ gone: new Map(), begun: new Map() }),
  step(state, event) {
    if (event.kind === dma.kind) return reach(state, event);
    if (event.kind === IovaFreed.kind) return free(state, event);
    if (event.kind === DmaMapped.kind) map(state, event);
    else if (event.kind === FlushCalled.kind) state.begun.set(event.actor, event.stamp);
    else if (event.kind === LeavesCleared.kind) clear(state, event);
    else if (event.kind === FlushReturned.kind) flush(state, event);
    else unmap(state, event);
    return null;
  },
});

const firstPage = (high: number, low: number): number => (high >>> 0) * 0x10_0000 + (low >>> 12);

function reach({ gone }: State, event: Cursor): Breach | null {
  if (dma.get.frame(event) === 0 || gone.get(dma.get.root(event))?.get(iovaPage(event))?.over !== true) return null;
  return breach(`a DMA of ${functionText(event)} completed through ${iovaText(event)} into ${frameText(event)} after the flush behind its unmap`);
}

function free({ gone }: State, event: Cursor): Breach | null {
  const pages = gone.get(IovaFreed.get.root(event));
  const first = firstPage(IovaFreed.get.iovaHigh(event), IovaFreed.get.iovaLow(event));
  for (let page = first; page < first + IovaFreed.get.pages(event); page++)
    if (pages?.get(page)?.flushed === false) return breach(`iova 0x${(page * 4096).toString(16)} is free again, but no flush that began after its unmap is over`);
  return null;
}

function map({ gone }: State, event: Cursor): void {
  const pages = gone.get(DmaMapped.get.root(event));
  const first = firstPage(DmaMapped.get.iovaHigh(event), DmaMapped.get.iovaLow(event));
  for (let page = first; page < first + DmaMapped.get.pages(event); page++) pages?.delete(page);
}

function clear({ gone }: State, event: Cursor): void {
  const root = LeavesCleared.get.root(event);
  const pages = gone.get(root) ?? new Map<number, Gone>();
  gone.set(root, pages);
  const first = firstPage(LeavesCleared.get.iovaHigh(event), LeavesCleared.get.iovaLow(event));
  for (let page = first; page < first + LeavesCleared.get.pages(event); page++) pages.set(page, { cleared: event.stamp, over: false, flushed: false });
}

function flush({ gone, begun }: State, event: Cursor): void {
  const began = begun.get(event.actor) ?? event.stamp;
  const first = firstPage(FlushReturned.get.iovaHigh(event), FlushReturned.get.iovaLow(event));
  const pages = FlushReturned.get.pages(event);
  for (const [page, one] of gone.get(FlushReturned.get.root(event)) ?? []) {
    if (one.cleared >= began || (pages !== 0 && (page < first || page >= first + pages))) continue;
    one.flushed = one.over = true;
  }
}

/** A strict unmap promises what it returns with; a lazy one only that the next flush will have come. */
function unmap({ gone }: State, event: Cursor): void {
  if (DmaUnmapped.get.lazy(event) !== 0) return;
  const first = firstPage(DmaUnmapped.get.iovaHigh(event), DmaUnmapped.get.iovaLow(event));
  const pages = gone.get(DmaUnmapped.get.root(event));
  for (let page = first; page < first + DmaUnmapped.get.pages(event); page++) {
    const one = pages?.get(page);
    if (one !== undefined) one.over = true;
  }
}
