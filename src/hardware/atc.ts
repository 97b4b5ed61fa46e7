/**
 * The address translation cache of a function with ATS (SEMANTICS e): what it was told on its translation requests, and the
 * invalidation requests that it has to answer.
 *
 *   idle -> pending    by the unit's queue, that carries out a device-TLB invalidation
 *   pending -> idle    by the function: lines dropped, transactions in flight marked; its completion counts once those have ended
 *
 * A function has one request at a time (a queue depth of 1): the unit sends the next when this one is taken. An answer that is on its
 * way when an invalidation comes is used for its transaction, which the completion waits for, and is not kept (E6).
 */
import { silent } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { markedLabel } from '#hostmem/labels';
import type { Frame, Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { markInFlight } from './drain.ts';
import { PciFunction } from './function.ts';
import { pushAhead } from './page-requests.ts';
import { TaggedCacheView } from './tagged-cache.ts';
import { IommuUnit } from './unit.ts';

export const Atc = object('Atc', {
  /** The E bit of the function's ATS control register, which software writes. */
  enabled: u32,
  lines: ref('TaggedCache'),
  /** The invalidation request: which pages (all of them for an order of 52), of a PASID, at -1 of requests without, or at `everyPasid`. */
  pending: u32,
  addressHigh: u32,
  addressLow: u32,
  order: u32,
  pasid: u32,
});

const labels = { lookup: markedLabel('Atc.lookup'), fill: markedLabel('Atc.fill') };
const invalidateLabel = markedLabel('Atc.invalidate');
/** In place of a PASID: the request has none. */
export const withoutPasid = 1 << 20;
const ownerMask = (1 << 21) - 1;

/** In place of a PASID in an invalidation request: those of every PASID go (G of the message). */
export const everyPasid = -2;

/** By which its lines tell the PASID of a request. */
export const atcOwnerOf = (pasid: number): number => (pasid < 0 ? withoutPasid : pasid);

/**
 * The order of the block of pages that an invalidation request with S names (PCIe, as in the completion of a translation request): the lowest zero bit
 * of its address, from 12 up, says how large it is. All pages when every bit is one.
 */
export function orderOfBlock(addressHigh: number, addressLow: number): number {
  const low = ~(addressLow >> 12);
  if ((low & 0xfffff) !== 0) return 32 - Math.clz32(low & -low);
  const high = ~addressHigh;
  return high === 0 ? 52 : 52 - Math.clz32(high & -high);
}

/** One thread's view; after a hit `frame`, `permissions` and `root` are those of the line. */
export class AtcView {
  frame = 0 as Frame;
  permissions = 0;
  root = 0 as Frame;
  readonly #kernel: Memory;
  readonly #atc: Ref<'Atc'>;
  readonly #lines: TaggedCacheView;

  constructor(kernel: Memory, atc: Ref<'Atc'>) {
    this.#kernel = kernel;
    this.#atc = atc;
    this.#lines = new TaggedCacheView(kernel, Atc.lines.peek(kernel, atc), labels);
  }

  /** Whether software lets the function make translation requests. A point. */
  isEnabled(): boolean {
    return Atc.enabled.load(this.#kernel, this.#atc) !== 0;
  }

  get at(): number {
    return this.#lines.at;
  }

  epoch(): number {
    return this.#lines.epoch();
  }

  lookup(pasid: number, iovaHigh: number, iovaLow: number): boolean {
    const lines = this.#lines;
    if (!lines.lookup((iovaHigh << 20) | (iovaLow >>> 12), atcOwnerOf(pasid), iovaHigh >>> 12, -1)) return false;
    this.frame = lines.value0 as Frame;
    this.permissions = lines.value1;
    this.root = lines.value2 as Frame;
    return true;
  }

  fill(pasid: number, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, root: Frame, epoch: number): void {
    this.#lines.fill((iovaHigh << 20) | (iovaLow >>> 12), atcOwnerOf(pasid), iovaHigh >>> 12, frame, permissions, root, epoch);
  }

  /** Drops all that the function keeps. */
  clear(): void {
    this.#lines.invalidate(0, 0, 0, 0, 0, 0);
  }

  /** Drops the pages of the aligned block of `1 << order` around the IOVA. */
  invalidate(pasid: number, iovaHigh: number, iovaLow: number, order: number): void {
    const key = (iovaHigh << 20) | (iovaLow >>> 12);
    const isWhole = order >= 32;
    const owner = pasid === everyPasid ? 0 : atcOwnerOf(pasid);
    this.#lines.invalidate(key, isWhole ? 0 : -1 << order, owner, pasid === everyPasid ? withoutPasid : ownerMask, iovaHigh >>> 12, isWhole ? 0 : -1);
  }
}

/** The function's side of invalidation: a step of its own, some time after the unit sent the request. */
export class AtcInvalidation implements Engine {
  readonly name: string;
  readonly memory: Memory;
  readonly #function: Ref<'PciFunction'>;
  readonly #atc: Ref<'Atc'>;
  readonly #view: AtcView;

  constructor(host: Host, pciFunction: Ref<'PciFunction'>) {
    this.memory = host.kernel;
    this.#function = pciFunction;
    this.#atc = PciFunction.atc.peek(host.kernel, pciFunction);
    this.#view = new AtcView(host.kernel, this.#atc);
    this.name = `atc ${PciFunction.rid.peek(host.kernel, pciFunction).toString(16).padStart(4, '0')}`;
  }

  /** Who is gone does not answer. */
  ready(): boolean {
    return silent.load(this.memory, Atc.pending.address(this.memory, this.#atc)) !== 0 && !isGone(this.memory, this.#function);
  }

  at(): number {
    return this.#view.at;
  }

  label(): number {
    return invalidateLabel;
  }

  /** In a free run any number of threads may take a request: dropping and marking twice does no harm. */
  step(): void {
    const memory = this.memory;
    if (PciFunction.gone.load(memory, this.#function) !== 0) return;
    const high = Atc.addressHigh.peek(memory, this.#atc);
    const low = Atc.addressLow.peek(memory, this.#atc);
    this.#view.invalidate(Atc.pasid.peek(memory, this.#atc), high, low, Atc.order.peek(memory, this.#atc));
    markInFlight(memory, this.#function, true, true);
    pushAhead(memory, this.#function);
    silent.store(memory, Atc.pending.address(memory, this.#atc), 0);
  }
}

/** The function behind a unit with that requester id that has an ATC; `NULL` for none. */
export function functionWithAtc(kernel: Memory, unit: Ref<'IommuUnit'>, sourceId: number): Ref<'PciFunction'> {
  let at: Ref<'PciFunction'> = IommuUnit.firstFunction.peek(kernel, unit);
  while (at !== NULL && (PciFunction.rid.peek(kernel, at) !== sourceId || PciFunction.atc.peek(kernel, at) === NULL)) at = PciFunction.nextOfUnit.peek(kernel, at);
  return at;
}

export const isGone = (kernel: Memory, pciFunction: Ref<'PciFunction'>): boolean => silent.load(kernel, PciFunction.gone.address(kernel, pciFunction)) !== 0;

/** A function of the unit that has a request pending, and that is gone or not; `NULL` for none. */
export function pendingFunction(kernel: Memory, unit: Ref<'IommuUnit'>, gone: boolean): Ref<'PciFunction'> {
  let at: Ref<'PciFunction'> = IommuUnit.firstFunction.peek(kernel, unit);
  while (at !== NULL && !(isPending(kernel, at) && isGone(kernel, at) === gone)) at = PciFunction.nextOfUnit.peek(kernel, at);
  return at;
}

/** The unit waits no longer for the function. */
export function forgetRequest(kernel: Memory, pciFunction: Ref<'PciFunction'>): void {
  silent.store(kernel, Atc.pending.address(kernel, PciFunction.atc.peek(kernel, pciFunction)), 0);
}

export function isPending(kernel: Memory, pciFunction: Ref<'PciFunction'>): boolean {
  const atc = PciFunction.atc.peek(kernel, pciFunction);
  return atc !== NULL && silent.load(kernel, Atc.pending.address(kernel, atc)) !== 0;
}

/** Sends a request to a function that has none pending. */
export function sendInvalidation(kernel: Memory, pciFunction: Ref<'PciFunction'>, pasid: number, addressHigh: number, addressLow: number, order: number): void {
  const atc = PciFunction.atc.peek(kernel, pciFunction);
  Atc.addressHigh.poke(kernel, atc, addressHigh);
  Atc.addressLow.poke(kernel, atc, addressLow);
  Atc.order.poke(kernel, atc, order);
  Atc.pasid.poke(kernel, atc, pasid);
  silent.store(kernel, Atc.pending.address(kernel, atc), 1);
}
