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
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import { pageBytes, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table';
import { dma, DmaFlags } from './events.ts';
import { bufferBytes, InFlight, PciFunction } from './function.ts';
import type { TranslationUnit } from './translation-unit.ts';
import { TrustedPath } from './trusted-path.ts';
import { IommuUnit } from './unit.ts';

/** In place of a fault reason (as are `TrustReason`s): the translation led to an address without memory, and the request was aborted. */
export const noMemory = 0x100;

/** Writes to `0xfee00000..0xfeefffff` are interrupt messages. */
const interruptWindow = 0xfee;

const dataLabel = label('ram.data');

export class DmaEngine {
  readonly function: Ref<'PciFunction'>;
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #unit: TranslationUnit;
  /** Null on a host without a TSM. */
  readonly trusted: TrustedPath | null;
  readonly #frames: number;
  readonly #table: Frames;
  readonly #rid: number;
  readonly #sourceId: number;
  /** Byte addresses in kernel memory. */
  readonly #slotAt: number;
  readonly #bufferAt: number;
  readonly #transactionsAt: number;
  readonly #hitsAt: number;
  readonly #faultsAt: number;
  readonly #bytesAt: number;

  constructor(host: Host, unit: TranslationUnit, pciFunction: Ref<'PciFunction'>) {
    const kernel = host.kernel;
    this.function = pciFunction;
    this.#kernel = kernel;
    this.#ram = host.ram;
    this.#unit = unit;
    this.trusted = TrustedPath.of(host, IommuUnit.trustedRoot.peek(kernel, PciFunction.unit.peek(kernel, pciFunction)), unit, pciFunction);
    this.#frames = host.ram.sizeBytes / pageBytes;
    this.#table = host.frames;
    this.#rid = PciFunction.rid.peek(kernel, pciFunction);
    this.#sourceId = PciFunction.sourceId.peek(kernel, pciFunction);
    this.#slotAt = PciFunction.inFlight.address(kernel, pciFunction);
    this.#bufferAt = PciFunction.buffer.elementAddress(kernel, pciFunction, 0);
    this.#transactionsAt = PciFunction.transactions.address(kernel, pciFunction);
    this.#hitsAt = PciFunction.hits.address(kernel, pciFunction);
    this.#faultsAt = PciFunction.faults.address(kernel, pciFunction);
    this.#bytesAt = PciFunction.bytes.address(kernel, pciFunction);
  }

  /** Memory to buffer. Returns 0, or the unit's fault reason, or `noMemory`. All sizes in bytes, multiples of 4. */
  read(iovaHigh: number, iovaLow: number, lengthBytes: number, bufferOffset: number = 0): number {
    return this.#transfer(Access.READ, iovaHigh, iovaLow, lengthBytes, bufferOffset);
  }

  /** Buffer to memory. Returns as `read`. */
  write(iovaHigh: number, iovaLow: number, lengthBytes: number, bufferOffset: number = 0): number {
    return this.#transfer(Access.WRITE, iovaHigh, iovaLow, lengthBytes, bufferOffset);
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
    if (iovaHigh === 0 && iovaLow >>> 20 === interruptWindow) {
      if (access === Access.READ) fill(this.#kernel, this.#bufferAt + bufferOffset, bytes, 0);
      return 0;
    }
    const kernel = this.#kernel;
    const unit = this.#unit;
    const write = access === Access.WRITE;
    const begin = kernel.history === null ? 0 : kernel.history.stamp();
    const idle = (peek(kernel, this.#slotAt) & ~3) + InFlight.countUnit;
    store(kernel, this.#slotAt, idle | InFlight.BUSY | (write ? InFlight.WRITE : 0), PciFunction.inFlight.label);
    let reason = (this.trusted ?? unit).translate(this.#sourceId, iovaHigh, iovaLow, access, unit.iotlb.epoch());
    if (reason === 0) reason = this.#move(write, iovaLow, bufferOffset, bytes);
    this.#count(reason, bytes);
    if (kernel.history !== null) {
      this.trusted?.report(write, iovaHigh, iovaLow, reason);
      const flags = (reason << DmaFlags.reasonShift) | (write ? DmaFlags.WRITE : 0);
      const owner = reason === 0 ? this.#table.ownerOf(unit.frame) & DmaFlags.ownerMask : 0;
      dma.emit(kernel, this.#rid | flags, iovaHigh, (iovaLow & ~(pageBytes - 1)) | owner, reason === 0 ? unit.frame : 0, unit.root, begin);
    }
    this.#end(idle);
    return reason;
  }

  /** The data of one page, as one point. */
  #move(write: boolean, iovaLow: number, bufferOffset: number, bytes: number): number {
    const frame = this.#unit.frame;
    if (frame >= this.#frames) return noMemory;
    const ram = this.#ram;
    const at = frame * pageBytes + (iovaLow & (pageBytes - 1));
    if (ram.control !== null) ram.control.point(write ? Op.WRITE : Op.READ, ram, frame * pageBytes, dataLabel);
    if (write) copy(ram, at, this.#kernel, this.#bufferAt + bufferOffset, bytes);
    else copy(this.#kernel, this.#bufferAt + bufferOffset, ram, at, bytes);
    return 0;
  }

  /** In a free run a plain store is enough: it becomes visible after the data and the event (x86 TSO). */
  #end(idle: number): void {
    if (this.#kernel.control === null) poke(this.#kernel, this.#slotAt, idle);
    else store(this.#kernel, this.#slotAt, idle, PciFunction.inFlight.label);
  }

  #count(reason: number, bytes: number): void {
    const kernel = this.#kernel;
    poke(kernel, this.#transactionsAt, peek(kernel, this.#transactionsAt) + 1);
    if (this.#unit.hit) poke(kernel, this.#hitsAt, peek(kernel, this.#hitsAt) + 1);
    if (reason === 0) poke(kernel, this.#bytesAt, peek(kernel, this.#bytesAt) + bytes);
    else poke(kernel, this.#faultsAt, peek(kernel, this.#faultsAt) + 1);
  }
}
