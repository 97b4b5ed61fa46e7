/** Who has which pages, counted from the areas, the accesses' pins and the hardware queues of a host at rest. */
import { NULL, type Ref } from '#hostmem/object';
import { Access } from '../kernel/access.ts';
import { HwQueue } from '../kernel/hw-queue.ts';
import { Ioas } from '../kernel/ioas.ts';
import { Area } from '../kernel/iopt-area.ts';
import { Kind } from '../kernel/objects.ts';
import { Pages } from '../kernel/pages.ts';
import { TestAccess, TestPin } from '../kernel/selftest/test-access.ts';
import { areasOf, bodies, contexts, domainsOf } from './records.ts';
import type { View } from './view.ts';

/** Of one set of pages. */
export class Fills {
  /** Areas that map it. */
  areas = 0;
  #counts: Int32Array | null = null;
  readonly #pages: number;

  constructor(pages: number) {
    this.#pages = pages;
  }

  /** Somebody has pages of it. */
  get any(): boolean {
    return this.#counts !== null;
  }
  /** How many have a page. */
  at(page: number): number {
    return this.#counts?.[page] ?? 0;
  }
  add(first: number, count: number, times: number): void {
    // A set that nobody has may be larger than any host.
    if (times > 0) this.#counts ??= new Int32Array(this.#pages);
    for (let page = first; times > 0 && page < first + count; page++) this.#counts![page]! += times;
  }
}

/** What refers to pages: sets, and how often accesses pin areas, of these how often for hardware queues. */
export interface PageUse {
  readonly fills: Map<Ref<'Pages'>, Fills>;
  readonly accesses: Map<Ref<'Area'>, number>;
  readonly queues: Map<Ref<'Area'>, number>;
}

export function pageUse(view: View): PageUse {
  const memory = view.host.kernel;
  const use: PageUse = { fills: new Map(), accesses: new Map(), queues: new Map() };
  for (const iommufd of contexts(view)) {
    for (const ioas of bodies<'Ioas'>(view, iommufd, Kind.IOAS)) {
      const domains = domainsOf(view, ioas).length;
      for (const area of areasOf(view, ioas)) {
        const own = fillsOf(view, use, area);
        own.areas++;
        own.add(Area.firstPage.peek(memory, area), Area.pageCount.peek(memory, area), isRevoked(view, area) ? 0 : domains);
      }
    }
  }
  for (const iommufd of contexts(view)) {
    for (const access of bodies<'Access'>(view, iommufd, Kind.ACCESS)) addAccess(view, use, access);
    for (const queue of bodies<'HwQueue'>(view, iommufd, Kind.HW_QUEUE)) addQueue(view, use, queue);
  }
  return use;
}

/** Its dma-buf has been taken away: the area stays, in no domain. */
export const isRevoked = (view: View, area: Ref<'Area'>): boolean =>
  Pages.revoked.peek(view.host.kernel, Area.transit.peek(view.host.kernel, area)) !== 0;

function fillsOf(view: View, { fills }: PageUse, area: Ref<'Area'>): Fills {
  const pages = Area.transit.peek(view.host.kernel, area);
  let known = fills.get(pages);
  if (known === undefined) fills.set(pages, (known = new Fills(Pages.count.peek(view.host.kernel, pages))));
  return known;
}

function addAccess(view: View, use: PageUse, access: Ref<'Access'>): void {
  const memory = view.host.kernel;
  const owner = Access.owner.peek(memory, access);
  let item: Ref<'TestPin'> = TestAccess.items.peek(memory, owner);
  const areas = item === NULL ? [] : areasOf(view, Access.ioasOfPins.peek(memory, access));
  for (; item !== NULL; item = TestPin.next.peek(memory, item)) {
    addPin(view, use, areas, TestPin.iova.peekBig(memory, item), TestPin.length.peekBig(memory, item));
  }
}

/** What its internal access pins, it locks. */
function addQueue(view: View, use: PageUse, queue: Ref<'HwQueue'>): void {
  const memory = view.host.kernel;
  const areas = areasOf(view, Access.ioasOfPins.peek(memory, HwQueue.access.peek(memory, queue)));
  const pinned = addPin(view, use, areas, HwQueue.pinnedIova.peekBig(memory, queue), HwQueue.pinnedBytes.peekBig(memory, queue));
  for (const area of pinned) use.queues.set(area, (use.queues.get(area) ?? 0) + 1);
}

/** Returns those of `areas` that it pins. */
function addPin(view: View, use: PageUse, areas: readonly Ref<'Area'>[], first: bigint, length: bigint): Ref<'Area'>[] {
  return areas.filter((area) => {
    const { start, end } = bytesOf(view, area, first, first + length - 1n);
    if (start >= end) return false;
    fillsOf(view, use, area).add(Math.floor(start / 4096), Math.ceil(end / 4096) - Math.floor(start / 4096), 1);
    use.accesses.set(area, (use.accesses.get(area) ?? 0) + 1);
    return true;
  });
}

/** Which bytes of its pages an area maps in `[first, last]`; empty when `start` is not below `end`. */
function bytesOf(view: View, area: Ref<'Area'>, first: bigint, last: bigint): { start: number; end: number } {
  const memory = view.host.kernel;
  const node = Area.node.peek(memory, area);
  const join = (high: number, low: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  const iova = join(Ioas.areas.startHigh(memory, node), Ioas.areas.startLow(memory, node));
  const areaLast = join(Ioas.areas.lastHigh(memory, node), Ioas.areas.lastLow(memory, node));
  const base = Area.firstPage.peek(memory, area) * 4096 + Area.pageOffset.peek(memory, area);
  const from = first > iova ? first : iova;
  const to = last < areaLast ? last : areaLast;
  return from > to ? { start: 0, end: 0 } : { start: base + Number(from - iova), end: base + Number(to - iova) + 1 };
}
