/** P8, dirty pages: a page that a device wrote while its writes were tracked is told to whoever asks for it, once at least. */
import { DmaFlags, dma } from '../../hardware/events.ts';
import { DirtyAnswered, DirtyQueried, DirtyReported, DirtyTracked, DomainJoined, DomainLeft, UnmapCalled } from '../../kernel/events.ts';
import { iovaPage, pageNumber } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** What is known of a domain that tracks writes, or did. Pages by number. */
interface Tracked {
  on: boolean;
  /** Pages written and not reported since, with the stamp of the write's event. */
  readonly owed: Map<number, number>;
  /** When each page was last reported. */
  readonly reported: Map<number, number>;
  /** Queries that have begun and not returned. */
  asking: number;
  /** What a query should have told, but for another one that may just have it in hand. */
  readonly missed: Set<number>;
}

interface Dirt {
  readonly domains: Map<number, Tracked>;
  /** Which IOAS a domain translates for, by root frame: `<process>.<ioas id>`. */
  readonly ioasOfRoot: Map<number, string>;
}

export default invariant<Dirt>({
  id: 'P8',
  claim: 'a page that a device has written since tracking was switched on is reported by the next clearing query of a range that holds it, or by one beside it',
  events: [DirtyTracked, DirtyQueried, DirtyReported, DirtyAnswered, DomainJoined, DomainLeft, UnmapCalled, dma],
  start: ({ beginning }) => ({
    domains: new Map(beginning.trackedRoots.map((root) => [root, trackedAnew(0)])),
    ioasOfRoot: new Map(beginning.ioasOfRoot),
  }),
  step({ domains, ioasOfRoot }, event) {
    switch (event.kind) {
      case DirtyTracked.kind:
        track(domains, DirtyTracked.get.root(event), DirtyTracked.get.on(event) !== 0);
        return null;
      case dma.kind: {
        const tracked = domains.get(dma.get.root(event));
        if (tracked?.on !== true || dma.get.frame(event) === 0 || (dma.get.function(event) & DmaFlags.WRITE) === 0) return null;
        // A query may have taken the mark of a write that had not ended.
        if ((tracked.reported.get(iovaPage(event)) ?? -1) < dma.get.begin(event)) tracked.owed.set(iovaPage(event), event.stamp);
        return null;
      }
      case DirtyQueried.kind: {
        const tracked = domains.get(DirtyQueried.get.root(event));
        if (tracked !== undefined) tracked.asking++;
        return null;
      }
      case DirtyReported.kind: {
        const { root, iovaHigh, iovaLow, pages } = DirtyReported.get;
        report(domains.get(root(event)), pageNumber(iovaHigh(event), iovaLow(event)), pages(event), event.stamp);
        return null;
      }
      case DirtyAnswered.kind: {
        const { root, iovaHigh, iovaLow, pages, begin } = DirtyAnswered.get;
        return answer(domains.get(root(event)), pageNumber(iovaHigh(event), iovaLow(event)), pages(event), begin(event));
      }
      case UnmapCalled.kind: {
        // Whoever unmaps asks before.
        const { process, ioas, iovaHigh, iovaLow, pages } = UnmapCalled.get;
        const name = `${process(event)}.${ioas(event)}`;
        for (const [root, tracked] of domains) if (ioasOfRoot.get(root) === name) forget(tracked, pageNumber(iovaHigh(event), iovaLow(event)), pages(event));
        return null;
      }
      case DomainJoined.kind:
        ioasOfRoot.set(DomainJoined.get.root(event), `${DomainJoined.get.process(event)}.${DomainJoined.get.ioas(event)}`);
        return null;
      default:
        domains.delete(DomainLeft.get.root(event));
        return null;
    }
  },
});

const trackedAnew = (asking: number): Tracked => ({ on: true, owed: new Map(), reported: new Map(), asking, missed: new Set() });

/** What was written before tracking is switched on is of no concern; switching it on once more begins nothing anew. */
function track(domains: Map<number, Tracked>, root: number, on: boolean): void {
  const known = domains.get(root);
  if (on && known?.on !== true) domains.set(root, trackedAnew(known?.asking ?? 0));
  else if (known !== undefined) known.on = on;
}

function report(tracked: Tracked | undefined, first: number, pages: number, stamp: number): void {
  for (let page = first; tracked !== undefined && page < first + pages; page++) {
    tracked.owed.delete(page);
    tracked.missed.delete(page);
    tracked.reported.set(page, stamp);
  }
}

/** Judges when nobody else is asking: of two queries, the one that returns first may have left a page to the other. */
function answer(tracked: Tracked | undefined, first: number, pages: number, begin: number): Breach | null {
  if (tracked === undefined) return null;
  tracked.asking--;
  for (const [page, written] of tracked.owed) if (written < begin && page >= first && page < first + pages) tracked.missed.add(page);
  if (tracked.asking > 0) return null;
  const [missed] = tracked.missed;
  if (missed === undefined) return null;
  return breach(`a device wrote the page at iova 0x${(missed * 4096).toString(16)} while its writes were tracked, and a query of 0x${(first * 4096).toString(16)}, ${pages} pages, succeeded without telling of it`);
}

function forget(tracked: Tracked, first: number, pages: number): void {
  for (const page of tracked.owed.keys()) {
    if (page < first || page >= first + pages) continue;
    tracked.owed.delete(page);
    tracked.missed.delete(page);
  }
}
