/**
 * A device as an actor: it does DMA through the unit that stands before it, of its own accord or as its driver tells it,
 * and checks what it reads.
 */
import { Until } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import type { DmaEngine } from '../hardware/dma-engine.ts';
import { Machine } from '../hardware/machine.ts';
import { EduOp, EduRegisters } from '../hardware/edu.ts';
import { Actor, highOf, lowOf, type Seat } from './actor.ts';

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

  /** DMA from the buffer to memory, as `read`. */
  write(iova: number, lengthBytes: number, pasid?: number): number {
    return this.#count(this.engine.write(highOf(iova), lowOf(iova), lengthBytes, 0, pasid), lengthBytes);
  }

  /** A word of the device's buffer. */
  word(index: number): number {
    return this.engine.bufferWord(index);
  }
  setWord(index: number, value: number): void {
    this.engine.setBufferWord(index, value);
  }

  /** Serves `count` commands of the driver. */
  serve(count: number): void {
    const memory = this.host.kernel;
    for (let i = 0; i < count; i++) {
      const finished = EduRegisters.finished.load(memory, this.#registers);
      this.waitIdle(EduRegisters.given, memory, this.#registers, Until.DIFFERENT, finished);
      const lengthBytes = EduRegisters.lengthBytes.peek(memory, this.#registers);
      const high = EduRegisters.iova.peekHigh(memory, this.#registers);
      const low = EduRegisters.iova.peek(memory, this.#registers);
      const pasid = EduRegisters.pasid.peek(memory, this.#registers);
      const isRead = EduRegisters.op.peek(memory, this.#registers) === EduOp.READ;
      const fault = isRead ? this.engine.read(high, low, lengthBytes, 0, pasid) : this.engine.write(high, low, lengthBytes, 0, pasid);
      EduRegisters.status.poke(memory, this.#registers, this.#count(fault, lengthBytes));
      EduRegisters.finished.store(memory, this.#registers, finished + 1);
    }
  }

  #count(fault: number, lengthBytes: number): number {
    this.counters.add('translations', Math.max(1, Math.ceil(lengthBytes / 4096)));
    this.counters.add(fault === 0 ? 'dma' : 'faults', 1);
    return fault;
  }
}
