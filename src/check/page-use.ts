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

/** What refers to pages: sets, and areas that accesses and hardware queues lie in. */
export interface PageUse {
  readonly fills: ReadonlyMap<Ref<'Pages'>, Fills>;
  readonly accesses: ReadonlyMap<Ref<'Area'>, number>;
  readonly queues: ReadonlyMap<Ref<'Area'>, number>;
}

export function pageUse(view: View): PageUse {
  const memory = view.host.kernel;
  const fills = new Map<Ref<'Pages'>, Fills>();
  const accesses = new Map<Ref<'Area'>, number>();
  const queues = new Map<Ref<'Area'>, number>();
  for (const iommufd of contexts(view)) {
    for (const ioas of bodies<'Ioas'>(view, iommufd, Kind.IOAS)) {
      const domains = domainsOf(view, ioas).length;
      for (const area of areasOf(view, ioas)) {
        const own = fillsOf(view, fills, area);
        own.areas++;
        own.add(Area.firstPage.peek(memory, area), Area.pageCount.peek(memory, area), isRevoked(view, area) ? 0 : domains);
      }
    }
  }
  for (const iommufd of contexts(view)) {
    for (const access of bodies<'Access'>(view, iommufd, Kind.ACCESS)) addAccess(view, fills, accesses, access);
    for (const queue of bodies<'HwQueue'>(view, iommufd, Kind.HW_QUEUE)) {
      const area = HwQueue.area.peek(memory, queue);
      fillsOf(view, fills, area).add(HwQueue.firstPage.peek(memory, queue), HwQueue.pageCount.peek(memory, queue), 1);
      queues.set(area, (queues.get(area) ?? 0) + 1);
    }
  }
  return { fills, accesses, queues };
}

/** Its dma-buf has been taken away: the area stays, in no domain. */
export const isRevoked = (view: View, area: Ref<'Area'>): boolean =>
  Pages.revoked.peek(view.host.kernel, Area.transit.peek(view.host.kernel, area)) !== 0;

function fillsOf(view: View, fills: Map<Ref<'Pages'>, Fills>, area: Ref<'Area'>): Fills {
  const pages = Area.transit.peek(view.host.kernel, area);
  let known = fills.get(pages);
  if (known === undefined) fills.set(pages, (known = new Fills(Pages.count.peek(view.host.kernel, pages))));
  return known;
}

function addAccess(view: View, fills: Map<Ref<'Pages'>, Fills>, accesses: Map<Ref<'Area'>, number>, access: Ref<'Access'>): void {
  const memory = view.host.kernel;
  const owner = Access.owner.peek(memory, access);
  let item: Ref<'TestPin'> = TestAccess.items.peek(memory, owner);
  const areas = item === NULL ? [] : areasOf(view, Access.ioasOfPins.peek(memory, access));
  for (; item !== NULL; item = TestPin.next.peek(memory, item)) {
    const first = TestPin.iova.peekBig(memory, item);
    const last = first + TestPin.length.peekBig(memory, item) - 1n;
    for (const area of areas) {
      const { start, end } = bytesOf(view, area, first, last);
      if (start >= end) continue;
      fillsOf(view, fills, area).add(Math.floor(start / 4096), Math.ceil(end / 4096) - Math.floor(start / 4096), 1);
      accesses.set(area, (accesses.get(area) ?? 0) + 1);
    }
  }
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
