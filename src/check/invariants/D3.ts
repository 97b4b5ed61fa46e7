/**
 * D3, linearizable translation: a DMA answers as the IOAS could have at one moment between its start and its end.
 *
 * A mapping is possibly in force from when it took its place until an unmap of it has returned, certainly from when its map has returned until an unmap
 * begins (`certainly` is never known of one that was made by a call without a return event). So there is no false alarm: what
 * completes needs a mapping that was possible, what faults must not have had one that was certain, and one that is certain reaches one frame.
 * Nothing is asked of requests that met no domain of an IOAS.
 */
import type { Cursor } from '#hostmem/history';
import { Access } from '#hostmem/page-table-format';
import { DmaFlags, dma } from '../../hardware/events.ts';
import { AreaGone, AreaPlaced, AreaTaken, DomainJoined, DomainLeft, MapReturned, UnmapCalled, UnmapReturned } from '../../kernel/events.ts';
import { frameText, functionText, iovaPage, iovaText, pageNumber } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** A mapping, and the stamps at which it became possible and certain, ceased to be certain, and to be possible. */
interface Version {
  readonly first: number;
  readonly end: number;
  readonly permissions: number;
  readonly placed: number;
  returned: number;
  taken: number;
  gone: number;
  /** What a page reached while it was certain. */
  readonly frames: Map<number, number>;
}

interface Translations {
  /** What a domain, by its root frame, translates for, and since when. */
  readonly domains: Map<number, { readonly ioas: string; readonly since: number }>;
  readonly versions: Map<string, Version[]>;
  /** When the unmap that an actor is in began. */
  readonly began: Map<number, number>;
  /** Of the mappings that were forgotten, when the last one ceased to be possible. */
  forgotten: number;
}

/** Mappings that are over and still remembered, of one IOAS. */
const remembered = 64;

export default invariant<Translations>({
  id: 'D3',
  claim: 'a DMA completes only where a mapping could be in force between its start and its end, faults only where none was throughout, and one mapping reaches one frame',
  events: [AreaPlaced, MapReturned, UnmapCalled, AreaTaken, AreaGone, UnmapReturned, DomainJoined, DomainLeft, dma],
  start(view) {
    const state: Translations = { domains: new Map(), versions: new Map(), began: new Map(), forgotten: -1 };
    for (const [root, ioas] of view.beginning.ioasOfRoot) state.domains.set(root, { ioas, since: -1 });
    for (const { ioas, first, pages, permissions } of view.beginning.mappings) {
      versionsOf(state, ioas).push({ ...version(first, pages, permissions, -1), returned: -1 });
    }
    return state;
  },
  step(state, event) {
    if (event.kind === dma.kind) return judge(state, event);
    if (event.kind === AreaPlaced.kind) place(state, event);
    else if (event.kind === MapReturned.kind) finishMap(state, event);
    else if (event.kind === UnmapCalled.kind) beginUnmap(state, event);
    else if (event.kind === AreaTaken.kind) take(state, AreaTaken.get, event);
    else if (event.kind === AreaGone.kind) take(state, AreaGone.get, event);
    else if (event.kind === UnmapReturned.kind) finishUnmap(state, event);
    else if (event.kind === DomainLeft.kind) state.domains.delete(DomainLeft.get.root(event));
    else state.domains.set(DomainJoined.get.root(event), { ioas: nameOf(DomainJoined.get, event), since: event.stamp });
    return null;
  },
});

function judge(state: Translations, event: Cursor): Breach | null {
  const domain = state.domains.get(dma.get.root(event));
  if (domain === undefined) return null;
  const page = iovaPage(event);
  const access = (dma.get.function(event) & DmaFlags.WRITE) === 0 ? Access.READ : Access.WRITE;
  const begin = dma.get.begin(event);
  const known = versionsOf(state, domain.ioas).filter((one) => page >= one.first && page < one.end && (one.permissions & access) !== 0);
  const certain = known.find((one) => one.returned <= begin && one.taken >= event.stamp && domain.since <= begin);
  if (dma.get.frame(event) === 0) return certain === undefined ? null : breach(`a DMA of ${functionText(event)} faulted on ${iovaText(event)}, which was mapped from before its start until after its end`);
  if (begin > state.forgotten && !known.some((one) => one.placed <= event.stamp && one.gone >= begin)) {
    return breach(`a DMA of ${functionText(event)} reached ${frameText(event)} through ${iovaText(event)}, which no mapping allowed at any time between its start and its end`);
  }
  return certain === undefined ? null : sameFrame(certain, page, event);
}

function sameFrame({ frames }: Version, page: number, event: Cursor): Breach | null {
  const before = frames.get(page);
  frames.set(page, dma.get.frame(event));
  if (before === undefined || before === dma.get.frame(event)) return null;
  return breach(`two DMAs reached two frames through one mapping of ${iovaText(event)}: 0x${before.toString(16)}, then that of ${functionText(event)} ${frameText(event)}`);
}

function place(state: Translations, event: Cursor): void {
  const pages = AreaPlaced.get.pages(event);
  versionsOf(state, nameOf(AreaPlaced.get, event)).push(version(firstOf(AreaPlaced.get, event), pages, AreaPlaced.get.permissions(event), event.stamp));
}

/** Live mappings do not overlap: what lies in the range that was mapped is what this call has placed. */
function finishMap(state: Translations, event: Cursor): void {
  if (MapReturned.get.errno(event) !== 0) return;
  const first = firstOf(MapReturned.get, event);
  for (const one of versionsOf(state, nameOf(MapReturned.get, event))) {
    if (one.returned === Infinity && one.taken === Infinity && one.first >= first && one.end <= first + MapReturned.get.pages(event)) one.returned = event.stamp;
  }
}

function beginUnmap(state: Translations, event: Cursor): void {
  state.began.set(event.actor, event.stamp);
  take(state, UnmapCalled.get, event);
}

/** 0 pages are all there are. */
function take(state: Translations, get: Ranged, event: Cursor): void {
  for (const one of overlapping(state, get, event)) one.taken = Math.min(one.taken, event.stamp);
}

/** What came while the unmap ran may have been left alone by it. */
function finishUnmap(state: Translations, event: Cursor): void {
  const began = state.began.get(event.actor);
  if (UnmapReturned.get.errno(event) !== 0 || began === undefined) return;
  for (const one of overlapping(state, UnmapReturned.get, event)) if (one.placed < began) one.gone = Math.min(one.gone, event.stamp);
  forget(state, nameOf(UnmapReturned.get, event));
}

function forget(state: Translations, ioas: string): void {
  const versions = versionsOf(state, ioas);
  const over = versions.filter(({ gone }) => gone !== Infinity);
  if (over.length <= remembered) return;
  const dropped = new Set(over.slice(0, over.length - remembered / 2));
  for (const { gone } of dropped) state.forgotten = Math.max(state.forgotten, gone);
  state.versions.set(ioas, versions.filter((one) => !dropped.has(one)));
}

type Word = (event: Cursor) => number;
interface Named {
  readonly process: Word;
  readonly ioas: Word;
}
interface Ranged extends Named {
  readonly iovaHigh: Word;
  readonly iovaLow: Word;
  readonly pages: Word;
}

const nameOf = (get: Named, event: Cursor): string => `${get.process(event)}.${get.ioas(event)}`;
const firstOf = (get: Ranged, event: Cursor): number => pageNumber(get.iovaHigh(event), get.iovaLow(event));

function overlapping(state: Translations, get: Ranged, event: Cursor): Version[] {
  const first = firstOf(get, event);
  const end = get.pages(event) === 0 ? Infinity : first + get.pages(event);
  return versionsOf(state, nameOf(get, event)).filter((one) => one.first < end && one.end > first);
}

const version = (first: number, pages: number, permissions: number, placed: number): Version => ({
  first, end: first + pages, permissions, placed, returned: Infinity, taken: Infinity, gone: Infinity, frames: new Map(),
});

function versionsOf({ versions }: Translations, ioas: string): Version[] {
  let found = versions.get(ioas);
  if (found === undefined) versions.set(ioas, (found = []));
  return found;
}
