/**
 * A device as an actor: it does DMA through the unit that stands before it, of its own accord or as its driver tells it,
 * and checks what it reads.
 */
import { Until } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import type { DmaEngine } from '../hardware/dma-engine.ts';
import { Machine } from '../hardware/machine.ts';
import { askForPage } from '../hardware/page-requests.ts';
import { EduOp, EduRegisters } from '../hardware/edu.ts';
import { Actor, highOf, lowOf, type Seat } from './actor.ts';

const lineBytes = 64;

export class Device extends Actor {
  readonly engine: DmaEngine;
  readonly #registers: Ref<'EduRegisters'>;

  constructor(seat: Seat, name: string) {
    super(seat);
    this.#registers = this.named(`${name}.registers`) as Ref<'EduRegisters'>;
    this.engine = new Machine(seat.host).dma(this.named(name) as Ref<'PciFunction'>);
  }

  /** DMA from memory into the buffer, its requests tagged with a PASID if one is given; 0, or the unit's fault reason. */
  read(iova: number, lengthBytes: number, pasid?: number): number {
    return this.#count(this.engine.read(highOf(iova), lowOf(iova), lengthBytes, 0, pasid), lengthBytes);
  }

  /** Reads a line, so many times: it may fault, but what it finds is one of the words that somebody put there for it. */
  readTag(iova: number, tags: readonly number[], times: number = 1, pasid?: number): void {
    for (let i = 0; i < times; i++) {
      if (this.read(iova, lineBytes, pasid) === 0) this.check(tags.includes(this.word(0)), `read 0x${this.word(0).toString(16)} at 0x${iova.toString(16)}, which nobody put there`);
    }
  }

  /** Reads where nothing is mapped, so many times: it faults, for one reason or another. */
  readNothing(iova: number, times: number): void {
    for (let i = 0; i < times; i++) this.check(this.read(iova, lineBytes) !== 0, `reached memory at 0x${iova.toString(16)}, where nothing is mapped`);
  }

  /** As `read`, with T = 0 also where the device's interface runs. */
  readUntrusted(iova: number, lengthBytes: number): number {
    const { trusted } = this.engine;
    if (trusted !== null) trusted.untrusted = true;
    const fault = this.read(iova, lengthBytes);
    if (trusted !== null) trusted.untrusted = false;
    return fault;
  }

  /** DMA from the buffer to memory, as `read`. */
  write(iova: number, lengthBytes: number, pasid?: number): number {
    return this.#count(this.engine.write(highOf(iova), lowOf(iova), lengthBytes, 0, pasid), lengthBytes);
  }

  /** Somebody pulls the device out, and plugs it in again, without a word to the kernel. */
  leave(): void {
    this.engine.leave();
  }
  comeBack(): void {
    this.engine.comeBack();
  }

  /** Asks for a page, and does not wait for the answer; returns the number of the group. */
  ask(iova: number, pasid: number | null = null): number {
    return askForPage(this.host.kernel, this.engine.function, pasid, Math.floor(iova / 4096), Access.READ);
  }

  /** A word of the device's buffer. */
  word(index: number): number {
    return this.engine.bufferWord(index);
  }
  setWord(index: number, value: number): void {
    this.engine.setBufferWord(index, value);
  }

  /** Serves `count` commands of the driver, or of who has a share of the device. */
  serve(count: number, share?: string): void {
    const registers = share === undefined ? this.#registers : (this.named(`${share}.portal`) as Ref<'EduRegisters'>);
    const memory = this.host.kernel;
    for (let i = 0; i < count; i++) {
      const finished = EduRegisters.finished.load(memory, registers);
      this.waitIdle(EduRegisters.given, memory, registers, Until.DIFFERENT, finished);
      const lengthBytes = EduRegisters.lengthBytes.peek(memory, registers);
      const high = EduRegisters.iova.peekHigh(memory, registers);
      const low = EduRegisters.iova.peek(memory, registers);
      const pasid = EduRegisters.pasid.peek(memory, registers);
      const isRead = EduRegisters.op.peek(memory, registers) === EduOp.READ;
      const fault = isRead ? this.engine.read(high, low, lengthBytes, 0, pasid) : this.engine.write(high, low, lengthBytes, 0, pasid);
      EduRegisters.status.poke(memory, registers, this.#count(fault, lengthBytes));
      EduRegisters.finished.store(memory, registers, finished + 1);
    }
  }

  #count(fault: number, lengthBytes: number): number {
    this.counters.add('translations', Math.max(1, Math.ceil(lengthBytes / 4096)));
    this.counters.add(fault === 0 ? 'dma' : 'faults', 1);
    return fault;
  }
}
