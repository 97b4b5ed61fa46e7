/**
 * The DMA engine of a PCI function: moves words between memory and the function's internal buffer, page by page.
 *
 * Each page is a transaction of its own: published as in flight, translated, moved, reported, ended. A transfer stops at the
 * first page that faults: what came before has moved, and what a read did not get reads as zeros in the buffer, as recorded from
 * a real machine (`traces/GROUP_STEPS.md` 61, 62). Addresses of the interrupt window are never translated: writes to it are
 * messages and reach no memory (68).
 *
 * One thread drives a function at a time. In a controlled run the points of a transaction are: in flight, those of the
 * translation, the data, ended.
 */
import { copy, fill, Op, peek, poke, store } from '#hostmem/atomics';
import { moveBytes } from '#hostmem/block-move';
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { highOf, lowOf } from '#hostmem/iova';
import { label } from '#hostmem/labels';
import { pageBytes, type Frame, type Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PageViews } from '#hostmem/page-views';
import { Access } from '#hostmem/page-table-format';
import { AtcView } from './atc.ts';
import { dma, DmaFlags, dmaOwnerShift, farPage, nestedDma, pasidDma, peerReached } from './events.ts';
import { bufferBytes, InFlight, PciFunction } from './function.ts';
import { guestPageOf, isNestedName, secondRootOf } from './nested-line.ts';
import type { AtsTranslator, Translator } from './translator.ts';
import { TrustedPath } from './trusted-path.ts';
import { noPasid } from './vtd/scalable-requester.ts';

/** In place of a fault reason (as are `TrustReason`s): the translation led to an address without memory, and the request was aborted. */
export const noMemory = 0x100;

/** Writes to `0xfee00000..0xfeefffff` are interrupt messages. */
const interruptWindow = 0xfee;

/** From here on what begins with a page and with the buffer is moved as one block: a call and `memcpy` cost less than a loop. */
const manyBytes = 1024;

const dataLabel = label('ram.data');
const peerLabel = label('PciFunction.bar');

export class DmaEngine {
  readonly function: Ref<'PciFunction'>;
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #unit: Translator | AtsTranslator;
  /** Not null for a function with a device interface. */
  readonly trusted: TrustedPath | null;
  readonly #frames: number;
  readonly #table: Frames;
  readonly #atc: AtcView | null;
  /** Siblings that no ACS keeps it from. */
  readonly #peers: readonly Ref<'PciFunction'>[];
  readonly #rid: number;
  readonly #sourceId: number;
  readonly #pasids: number;
  /** Of the transaction: the frame that it is for, the root table that it was translated through, whether it hit a cache of translations. */
  #frame = 0 as Frame;
  #root = 0 as Frame;
  #hit = false;
  /** What the translation granted, where two stages made it. */
  #granted = 0;
  /** What its requests carry, or `noPasid`. */
  #pasid = noPasid;
  /** Byte addresses in kernel memory. */
  readonly #slotAt: number;
  readonly #bufferAt: number;
  readonly #transactionsAt: number;
  readonly #hitsAt: number;
  readonly #faultsAt: number;
  readonly #bytesAt: number;
  /** For transfers of many bytes. */
  readonly #pages: PageViews;
  readonly #buffer: Uint8Array;

  constructor(host: Host, unit: Translator | AtsTranslator, pciFunction: Ref<'PciFunction'>) {
    const kernel = host.kernel;
    this.function = pciFunction;
    this.#kernel = kernel;
    this.#ram = host.ram;
    this.#unit = unit;
    this.trusted = unit instanceof TrustedPath ? unit : null;
    this.#frames = host.ram.sizeBytes / pageBytes;
    this.#table = host.frames;
    const atc = PciFunction.atc.peek(kernel, pciFunction);
    this.#atc = atc === NULL ? null : new AtcView(kernel, atc);
    this.#peers = peersOf(kernel, pciFunction);
    this.#rid = PciFunction.rid.peek(kernel, pciFunction);
    this.#sourceId = PciFunction.sourceId.peek(kernel, pciFunction);
    this.#pasids = PciFunction.pasids.peek(kernel, pciFunction);
    this.#slotAt = PciFunction.inFlight.address(kernel, pciFunction);
    this.#bufferAt = PciFunction.buffer.elementAddress(kernel, pciFunction, 0);
    this.#transactionsAt = PciFunction.transactions.address(kernel, pciFunction);
    this.#hitsAt = PciFunction.hits.address(kernel, pciFunction);
    this.#faultsAt = PciFunction.faults.address(kernel, pciFunction);
    this.#bytesAt = PciFunction.bytes.address(kernel, pciFunction);
    this.#pages = new PageViews(host.ram);
    this.#buffer = kernel.bytes.subarray(this.#bufferAt, this.#bufferAt + bufferBytes);
  }

  /** Memory to buffer. Returns 0, or the unit's fault reason, or `noMemory`. All sizes in bytes, multiples of 4; with a PASID every request carries it. */
  read(iovaHigh: number, iovaLow: number, lengthBytes: number, bufferOffset: number = 0, pasid: number = noPasid): number {
    this.#tag(pasid);
    return this.#transfer(Access.READ, iovaHigh, iovaLow, lengthBytes, bufferOffset);
  }

  /** Buffer to memory. Returns as `read`. */
  write(iovaHigh: number, iovaLow: number, lengthBytes: number, bufferOffset: number = 0, pasid: number = noPasid): number {
    this.#tag(pasid);
    return this.#transfer(Access.WRITE, iovaHigh, iovaLow, lengthBytes, bufferOffset);
  }

  /** A device may name any PASID that it has bits for: what it is allowed is for the unit to know. */
  #tag(pasid: number): void {
    if (pasid !== noPasid && (pasid < 0 || pasid >= this.#pasids)) throw new RangeError(`the function has ${this.#pasids} PASIDs, ${pasid} is none of them`);
    this.#pasid = pasid;
  }

  /** The function is pulled out: what it kept is lost, and it answers nothing. It does no DMA until it is back. */
  leave(): void {
    this.#atc?.clear();
    PciFunction.gone.store(this.#kernel, this.function, 1);
  }
  comeBack(): void {
    PciFunction.gone.store(this.#kernel, this.function, 0);
  }

  /** A word of the internal buffer. */
  bufferWord(index: number): number {
    return PciFunction.buffer.get(this.#kernel, this.function, index);
  }

  setBufferWord(index: number, value: number): void {
    PciFunction.buffer.set(this.#kernel, this.function, index, value);
  }

  /** Every word of the internal buffer. */
  fillBuffer(value: number): void {
    fill(this.#kernel, this.#bufferAt, bufferBytes, value);
  }

  #transfer(access: number, iovaHigh: number, iovaLow: number, lengthBytes: number, bufferOffset: number): number {
    if (((iovaLow | lengthBytes | bufferOffset) & 3) !== 0 || bufferOffset < 0 || lengthBytes < 0 || bufferOffset + lengthBytes > bufferBytes)
      throw new RangeError(`DMA of ${lengthBytes} bytes at buffer offset ${bufferOffset}: give multiples of 4 within ${bufferBytes}`);
    let high = iovaHigh;
    let low = iovaLow;
    const end = bufferOffset + lengthBytes;
    for (let at = bufferOffset; at < end; ) {
      const bytes = Math.min(end - at, pageBytes - (low & (pageBytes - 1)));
      const reason = this.#page(access, high, low, at, bytes);
      if (reason !== 0) {
        if (access === Access.READ) fill(this.#kernel, this.#bufferAt + at, end - at, 0);
        return reason;
      }
      at += bytes;
      low = (low + bytes) | 0;
      if (low === 0) high = (high + 1) | 0;
    }
    return 0;
  }

  #page(access: number, iovaHigh: number, iovaLow: number, bufferOffset: number, bytes: number): number {
    if (iovaHigh === 0 && iovaLow >>> 20 === interruptWindow && this.#pasid === noPasid) {
      if (access === Access.READ) fill(this.#kernel, this.#bufferAt + bufferOffset, bytes, 0);
      return 0;
    }
    const peer = this.#peers.length === 0 || iovaHigh !== 0 ? NULL : this.#peerAt(iovaLow >>> 12);
    if (peer !== NULL) return this.#toPeer(peer, access === Access.WRITE, iovaLow, bufferOffset, bytes);
    const kernel = this.#kernel;
    const write = access === Access.WRITE;
    const begin = kernel.history === null ? 0 : kernel.history.moment();
    const idle = (peek(kernel, this.#slotAt) & ~3) + InFlight.countUnit;
    store(kernel, this.#slotAt, idle | InFlight.BUSY | (write ? InFlight.WRITE : 0), PciFunction.inFlight.label);
    let reason = this.#atc === null ? this.#untranslated(access, iovaHigh, iovaLow) : this.#byAts(this.#atc, access, iovaHigh, iovaLow);
    if (reason === 0) reason = this.#move(write, iovaLow, bufferOffset, bytes);
    this.#count(reason, bytes);
    if (kernel.history !== null) this.#tell(reason, write, iovaHigh, iovaLow, begin);
    this.#end(idle);
    return reason;
  }

  #tell(reason: number, write: boolean, iovaHigh: number, iovaLow: number, begin: number): void {
    const kernel = this.#kernel;
    this.trusted?.report(write, iovaHigh, iovaLow, reason);
    const word = this.#rid | (reason << DmaFlags.reasonShift) | (write ? DmaFlags.WRITE : 0);
    const owner = reason === 0 ? this.#table.ownerOf(this.#frame) & DmaFlags.ownerMask : 0;
    const frame = reason === 0 ? this.#frame : 0;
    if (this.#pasid === noPasid) dma.emit(kernel, word, iovaHigh, (iovaLow & ~(pageBytes - 1)) | owner, frame, this.#root, begin);
    else pasidDma.emit(kernel, word, this.#pasid | (owner << dmaOwnerShift), iovaHigh >>> 12 === 0 ? (iovaHigh << 20) | (iovaLow >>> 12) : farPage, frame, this.#root, begin);
    if (reason !== 0 || !isNestedName(this.#root)) return;
    const page = guestPageOf(this.#granted);
    nestedDma.emit(kernel, word, highOf(page), lowOf(page), frame, secondRootOf(this.#root), begin);
  }

  /** The sibling whose memory is at that page of the bus. */
  #peerAt(page: number): Ref<'PciFunction'> {
    for (const peer of this.#peers) if (PciFunction.bar.peek(this.#kernel, peer) === page) return peer;
    return NULL;
  }

  /** Routed below the unit: no translation, no permission, no fault; what the unit was told of the requester does not matter. */
  #toPeer(peer: Ref<'PciFunction'>, write: boolean, iovaLow: number, bufferOffset: number, bytes: number): number {
    const kernel = this.#kernel;
    const own = this.#bufferAt + bufferOffset;
    const at = PciFunction.buffer.elementAddress(kernel, peer, 0) + (iovaLow & (pageBytes - 1));
    if (kernel.control !== null) kernel.control.point(write ? Op.WRITE : Op.READ, kernel, at, peerLabel);
    if (write) copy(kernel, at, kernel, own, bytes);
    else copy(kernel, own, kernel, at, bytes);
    peerReached.emit(kernel, this.#rid | (write ? DmaFlags.WRITE : 0), 0, iovaLow & ~(pageBytes - 1), PciFunction.rid.peek(kernel, peer));
    return 0;
  }

  #untranslated(access: number, iovaHigh: number, iovaLow: number): number {
    const unit = this.#unit;
    const reason = unit.translate(this.#sourceId, iovaHigh, iovaLow, access, unit.iotlb.epoch(), this.#pasid);
    this.#frame = unit.frame;
    this.#root = unit.root;
    this.#hit = unit.hit;
    if ('permissions' in unit) this.#granted = unit.permissions;
    return reason;
  }

  /**
   * Of a function with ATS, while it is enabled: its own cache or a translation request, then a request with the address that it was told.
   * The epoch comes first: what is asked for while software switches ATS off is not kept.
   */
  #byAts(atc: AtcView, access: number, iovaHigh: number, iovaLow: number): number {
    const unit = this.#unit;
    const epoch = atc.epoch();
    if (!('request' in unit) || !atc.isEnabled()) return this.#untranslated(access, iovaHigh, iovaLow);
    this.#hit = atc.lookup(this.#pasid, iovaHigh, iovaLow) && (atc.permissions & access) === access;
    if (this.#hit) {
      this.#frame = atc.frame;
      this.#root = atc.root;
      this.#granted = atc.permissions;
    } else {
      const reason = unit.request(this.#sourceId, iovaHigh, iovaLow, access, unit.iotlb.epoch(), this.#pasid);
      this.#frame = unit.frame;
      this.#root = unit.root;
      this.#granted = unit.permissions;
      if (reason !== 0) return reason;
      atc.fill(this.#pasid, iovaHigh, iovaLow, unit.frame, unit.permissions, unit.root, epoch);
    }
    return unit.passTranslated(this.#sourceId, Math.floor(this.#frame / 0x100000), this.#frame << 12, access, this.#pasid);
  }

  /** The data of one page, as one point. */
  #move(write: boolean, iovaLow: number, bufferOffset: number, bytes: number): number {
    const frame = this.#frame;
    if (frame >= this.#frames) return noMemory;
    const ram = this.#ram;
    const at = frame * pageBytes + (iovaLow & (pageBytes - 1));
    if (ram.control !== null) ram.control.point(write ? Op.WRITE : Op.READ, ram, frame * pageBytes, dataLabel);
    else if (bytes >= manyBytes && bufferOffset === 0 && (iovaLow & (pageBytes - 1)) === 0) {
      if (write) moveBytes(ram.bytes, at, this.#buffer, bytes);
      else moveBytes(this.#buffer, 0, this.#pages.of(frame), bytes);
      return 0;
    }
    if (write) copy(ram, at, this.#kernel, this.#bufferAt + bufferOffset, bytes);
    else copy(this.#kernel, this.#bufferAt + bufferOffset, ram, at, bytes);
    return 0;
  }

  /** In a free run a plain store is enough: it becomes visible after the data and the event (x86 TSO). */
  #end(idle: number): void {
    if (this.#kernel.control === null) poke(this.#kernel, this.#slotAt, idle);
    else store(this.#kernel, this.#slotAt, idle, PciFunction.inFlight.label);
  }

  /** Words that only the device's thread writes. */
  #count(reason: number, bytes: number): void {
    const kernel = this.#kernel;
    const words = kernel.words;
    if (kernel.control !== null) kernel.control.dirty(kernel, this.#transactionsAt);
    if (kernel.control !== null) kernel.control.dirty(kernel, this.#bytesAt);
    words[this.#transactionsAt >>> 2]!++;
    if (this.#hit) words[this.#hitsAt >>> 2]!++;
    if (reason === 0) words[this.#bytesAt >>> 2]! += bytes;
    else words[this.#faultsAt >>> 2]!++;
  }
}

function peersOf(kernel: Memory, pciFunction: Ref<'PciFunction'>): Ref<'PciFunction'>[] {
  const found: Ref<'PciFunction'>[] = [];
  const first = PciFunction.nextPeer.peek(kernel, pciFunction);
  for (let at = first; at !== NULL && at !== pciFunction; at = PciFunction.nextPeer.peek(kernel, at)) found.push(at);
  return found;
}
