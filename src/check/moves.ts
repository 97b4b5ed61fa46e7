/**
 * Moves of groups, and the faults in them that a device need not have met: what it asked for was mapped before by the old domain and by the new one. Whether
 * a fault in such a moment is allowed is for invariants to say (D5, D11).
 */
import type { Cursor } from '#hostmem/history';
import { Access } from '#hostmem/page-table-format';
import { DmaFlags, dma } from '../hardware/events.ts';
import { AreaPlaced, DomainJoined, DomainLeft, GroupMoved, GroupMoves, MapReturned, UnmapCalled } from '../kernel/events.ts';
import { iovaPage, pageNumber, ridOf } from './dma-words.ts';
import type { View } from './view.ts';

/** A mapping by its first page; it counts from the stamp at which its MAP had returned. */
interface Mapped {
  readonly pages: number;
  readonly permissions: number;
  since: number;
}

/** A group's move between two domains, from its start to its end. */
export interface Move {
  readonly from: number;
  until: number;
  readonly roots: readonly [old: number, next: number];
}

export interface Moves {
  readonly ioasOfRoot: Map<number, string>;
  readonly formatOfRoot: Map<number, number>;
  /** By IOAS, then by first page. */
  readonly mapped: Map<string, Map<number, Mapped>>;
  /** The last move of each group: a transaction in flight holds the next one up. */
  readonly last: Map<number, Move>;
}

/** What there is to fold. */
export const moveEvents = [AreaPlaced, MapReturned, UnmapCalled, DomainJoined, DomainLeft, GroupMoves, GroupMoved, dma] as const;

export function noMoves({ beginning }: View): Moves {
  const mapped: Moves['mapped'] = new Map();
  for (const { ioas, first, pages, permissions } of beginning.mappings) spaceOf(mapped, ioas).set(first, { pages, permissions, since: 0 });
  return { ioasOfRoot: new Map(beginning.ioasOfRoot), formatOfRoot: new Map(beginning.formatOfRoot), mapped, last: new Map() };
}

/** Folds one event. The move in which a DMA of a member faulted on what both domains map; null otherwise. */
export function faultedMove({ ioasOfRoot, formatOfRoot, mapped, last }: Moves, event: Cursor, view: View): Move | null {
  switch (event.kind) {
    case AreaPlaced.kind: {
      const { process, ioas, iovaHigh, iovaLow, pages, permissions } = AreaPlaced.get;
      const first = pageNumber(iovaHigh(event), iovaLow(event));
      spaceOf(mapped, `${process(event)}.${ioas(event)}`).set(first, { pages: pages(event), permissions: permissions(event), since: Infinity });
      return null;
    }
    case MapReturned.kind: {
      const { process, ioas, iovaHigh, iovaLow, errno } = MapReturned.get;
      const one = mapped.get(`${process(event)}.${ioas(event)}`)?.get(pageNumber(iovaHigh(event), iovaLow(event)));
      if (one !== undefined && errno(event) === 0) one.since = event.stamp;
      return null;
    }
    case UnmapCalled.kind: {
      const { process, ioas, iovaHigh, iovaLow, pages } = UnmapCalled.get;
      remove(mapped.get(`${process(event)}.${ioas(event)}`), pageNumber(iovaHigh(event), iovaLow(event)), pages(event));
      return null;
    }
    case DomainJoined.kind:
      ioasOfRoot.set(DomainJoined.get.root(event), `${DomainJoined.get.process(event)}.${DomainJoined.get.ioas(event)}`);
      formatOfRoot.set(DomainJoined.get.root(event), DomainJoined.get.format(event));
      return null;
    case DomainLeft.kind:
      ioasOfRoot.delete(DomainLeft.get.root(event));
      return null;
    case GroupMoves.kind: {
      const { group, oldRoot, newRoot } = GroupMoves.get;
      last.set(group(event), { from: event.stamp, until: Infinity, roots: [oldRoot(event), newRoot(event)] });
      return null;
    }
    case GroupMoved.kind: {
      const move = last.get(GroupMoved.get.group(event));
      if (move !== undefined) move.until = event.stamp;
      return null;
    }
    default: {
      if (dma.get.frame(event) !== 0) return null;
      const move = last.get(view.groupOf(ridOf(event)));
      const begin = dma.get.begin(event);
      if (move === undefined || move.from > event.stamp || move.until < begin) return null;
      const needed = (dma.get.function(event) & DmaFlags.WRITE) === 0 ? Access.READ : Access.WRITE;
      return move.roots.every((root) => translates(mapped.get(ioasOfRoot.get(root) ?? ''), iovaPage(event), needed, begin)) ? move : null;
    }
  }
}

function spaceOf(mapped: Moves['mapped'], ioas: string): Map<number, Mapped> {
  let space = mapped.get(ioas);
  if (space === undefined) mapped.set(ioas, (space = new Map()));
  return space;
}

function translates(space: ReadonlyMap<number, Mapped> | undefined, page: number, needed: number, begin: number): boolean {
  for (const [first, { pages, permissions, since }] of space ?? []) {
    if (page >= first && page < first + pages) return since < begin && (permissions & needed) !== 0;
  }
  return false;
}

/** Whatever the range meets: a part cannot be unmapped. */
function remove(space: Map<number, Mapped> | undefined, first: number, pages: number): void {
  for (const [start, { pages: length }] of space ?? []) if (start < first + pages && start + length > first) space!.delete(start);
}
