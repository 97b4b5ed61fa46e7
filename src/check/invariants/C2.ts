/** C2, flush superset: what is flushed holds what was cleared, and tables are freed when no cache leads to them. */
import { Owner } from '#hostmem/frames';
import { FlushReturned, LeavesCleared, TablesFreed } from '../../drivers/events.ts';
import { taggedLines } from '../../hardware/tagged-cache.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { unitsOf } from '../cached.ts';
import { breach, invariant } from '../invariant.ts';

interface Range {
  readonly root: number;
  readonly first: number;
  readonly end: number;
}

/** What each actor has cleared and not flushed yet. */
type Cleared = Map<number, Range[]>;

const pagesPerHigh = 2 ** 20;
const rangeOf = (root: number, high: number, low: number, pages: number): Range => {
  const first = (high >>> 0) * pagesPerHigh + (low >>> 12);
  return { root, first, end: first + (pages >>> 0) };
};
/** `pages` 0 is the whole domain. */
const flushedRange = (root: number, high: number, low: number, pages: number): Range => (pages === 0 ? { root, first: 0, end: 2 ** 52 } : rangeOf(root, high, low, pages));
const text = ({ first, end }: Range): string => `[0x${(first * 4096).toString(16)}, 0x${(end * 4096 - 1).toString(16)}]`;

export default invariant<Cleared>({
  id: 'C2',
  claim: 'the range that an operation flushes contains the range of entries that it cleared, and no cache leads to a table that was freed',
  events: [LeavesCleared, FlushReturned, TablesFreed],
  start: () => new Map(),
  step(cleared, event) {
    if (event.kind === LeavesCleared.kind) {
      const { get } = LeavesCleared;
      const range = rangeOf(get.root(event), get.iovaHigh(event), get.iovaLow(event), get.pages(event));
      cleared.set(event.actor, [...(cleared.get(event.actor) ?? []), range]);
    } else if (event.kind === FlushReturned.kind) {
      const { get } = FlushReturned;
      const flushed = flushedRange(get.root(event), get.iovaHigh(event), get.iovaLow(event), get.pages(event));
      const own = cleared.get(event.actor) ?? [];
      const missed = own.find(({ root, first, end }) => root === flushed.root && (first < flushed.first || end > flushed.end));
      if (missed !== undefined) return breach(`${text(missed)} was cleared, but only ${text(flushed)} was flushed`);
      cleared.set(event.actor, own.filter(({ root }) => root !== flushed.root));
    } else {
      // A domain that no device is on any more has nothing to flush.
      for (const [actor, own] of cleared) cleared.set(actor, own.filter(({ root }) => root !== TablesFreed.get.root(event)));
    }
    return null;
  },
  inspectAfter: [TablesFreed],
  inspect(_cleared, view) {
    const { kernel, frames } = view.host;
    for (const unit of unitsOf(view)) {
      const dead = taggedLines(kernel, IommuUnit.walkCache.peek(kernel, unit)).find(({ value0 }) => frames.ownerOf(value0 as Parameters<typeof frames.ownerOf>[0]) !== Owner.TABLE);
      if (dead !== undefined) return breach(`a paging-structure cache leads to frame 0x${dead.value0.toString(16)}, which is no page table any more`);
    }
    return null;
  },
});
