/** P3, pins are exact: a frame is pinned once for each set of pages that some domain, access or hardware queue has it from. */
import { Owner } from '#hostmem/frames';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { MapReturned, PinMissing, UnmapReturned, VfioReturned } from '../../kernel/events.ts';
import { Area } from '../../kernel/iopt-area.ts';
import { Kind } from '../../kernel/objects.ts';
import { Source } from '../../kernel/page-source.ts';
import { Pages } from '../../kernel/pages.ts';
import { Process } from '../../kernel/process.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { pageUse, type Fills } from '../page-use.ts';
import { areasOf, bodies, contexts, pagesOf, processes } from '../records.ts';
import type { View } from '../view.ts';

export default invariant<null>({
  id: 'P3',
  claim: 'a page is pinned as long as a domain, an access or a hardware queue has it, and no longer; at rest every count is exact',
  events: [PinMissing],
  start: () => null,
  step: (_state, event) => breach(`frame 0x${PinMissing.get.frame(event).toString(16)} is unpinned more often than pinned`),
  inspectAfter: [MapReturned, UnmapReturned, VfioReturned],
  inspect: (_state, view, atRest) => (atRest ? compareUse(view) : null) ?? comparePins(view, atRest),
});

/** What sets of pages and areas say of themselves, against the areas, accesses and queues that refer to them. */
function compareUse(view: View): Breach | null {
  const memory = view.host.kernel;
  const { fills, accesses, queues } = pageUse(view);
  for (const [pages, expected] of fills) {
    const found = compareFills(view, pages, expected);
    if (found !== null) return found;
  }
  for (const area of allAreas(view)) {
    const pins = Area.accesses.peek(memory, area);
    const locks = Area.locks.peek(memory, area);
    if (pins === (accesses.get(area) ?? 0) && locks === (queues.get(area) ?? 0)) continue;
    return breach(`an area counts ${pins} pins of accesses and ${locks} of hardware queues, there are ${accesses.get(area) ?? 0} and ${queues.get(area) ?? 0}`);
  }
  return null;
}

function compareFills(view: View, pages: Ref<'Pages'>, expected: Fills): Breach | null {
  const memory = view.host.kernel;
  const references = Pages.references.peek(memory, pages);
  if (references !== expected.areas) return breach(`pages have ${references} references, ${expected.areas} areas map them`);
  const frames = Pages.frames.peek(memory, pages);
  const count = Pages.count.peek(memory, pages);
  if (frames === NULL) return expected.any ? breach('pages are in use and not pinned') : null;
  for (let page = 0; page < count; page++) {
    const recorded = runGet(memory, frames, count + page);
    if (recorded !== expected.at(page)) return breach(`frame 0x${runGet(memory, frames, page).toString(16)} is counted ${recorded} times, ${expected.at(page)} have it`);
  }
  return null;
}

/** Every frame's pins, against what the sets of pages say; during calls a set whose mutex is held is left out, and a frame may have more. */
function comparePins(view: View, atRest: boolean): Breach | null {
  const { frames } = view.host;
  const expected = new Int32Array(frames.count);
  const accounts = new Map<number, number>();
  for (const pages of pagesOf(view)) {
    if (!Pages.mutex.isHeld(view.host.kernel, pages)) countPins(view, pages, expected, accounts);
  }
  for (let frame = 1; frame < expected.length; frame++) {
    const pins = frames.ownerOf(frame as Frame) === Owner.FREE ? 0 : frames.pinsOf(frame as Frame);
    if (pins >= expected[frame]! && (!atRest || pins === expected[frame]!)) continue;
    return breach(`frame 0x${frame.toString(16)} is pinned ${pins} times, ${expected[frame]} sets of pages have it pinned`);
  }
  return atRest ? compareAccounts(view, accounts) : null;
}

/** A dma-buf's frames are a device's, which nobody pins. */
function countPins(view: View, pages: Ref<'Pages'>, expected: Int32Array, accounts: Map<number, number>): void {
  const memory = view.host.kernel;
  const frames = Pages.frames.peek(memory, pages);
  if (frames === NULL || Pages.source.peek(memory, pages) === Source.DMABUF) return;
  const count = Pages.count.peek(memory, pages);
  let pinned = 0;
  for (let page = 0; page < count; page++) {
    if (runGet(memory, frames, count + page) <= 0) continue;
    expected[runGet(memory, frames, page)]! += 1;
    pinned++;
  }
  const process = Pages.process.peek(memory, pages);
  accounts.set(process, (accounts.get(process) ?? 0) + pinned);
}

/** What each process pays for: VmPin. */
function compareAccounts(view: View, accounts: ReadonlyMap<number, number>): Breach | null {
  const memory = view.host.kernel;
  for (const process of processes(view)) {
    const pays = Process.pinnedPages.peek(memory, process);
    const pinned = accounts.get(process) ?? 0;
    if (pays !== pinned) return breach(`process ${Process.number.peek(memory, process)} pays for ${pays} pages, ${pinned} are pinned for it`);
  }
  return null;
}

function allAreas(view: View): Ref<'Area'>[] {
  return contexts(view).flatMap((iommufd) => bodies<'Ioas'>(view, iommufd, Kind.IOAS).flatMap((ioas) => areasOf(view, ioas)));
}
