/** An invalidation queue as bare hardware: descriptors are written by hand, and steps are taken one at a time. */
import { poke, silent, store } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { Batch } from '#src/drivers/vtd/batch';
import { VtdUnitState } from '#src/drivers/vtd/unit-state';
import { IommuUnit } from '#src/hardware/unit';
import type { InvalidationQueue } from '#src/hardware/vtd/invalidation-queue';
import { FaultStatus, VtdRegisters } from '#src/hardware/vtd/registers';
import type { SmallMachine } from './small-machine.ts';

const waitType = 0x25;

export class BareQueue {
  readonly small: SmallMachine;
  readonly queue: InvalidationQueue;
  readonly statusFrame: Frame;
  readonly #ring: number;
  readonly #entryBytes: number;
  tail = 0;

  constructor(small: SmallMachine, entryBytes: 16 | 32 = 16) {
    this.#entryBytes = entryBytes;
    const { kernel } = small.host;
    this.small = small;
    this.queue = small.machine.unit(small.unit).queue;
    const state = IommuUnit.driverData.peek(kernel, small.unit) as Ref<'VtdUnitState'>;
    this.#ring = hpaOf(VtdUnitState.queue.peek(kernel, state) as Frame);
    this.statusFrame = small.host.frames.allocate(16);
  }

  push(...words: readonly [number, number, number, number]): void {
    words.forEach((word, index) => poke(this.small.host.ram, this.#ring + this.tail * this.#entryBytes + index * 4, word));
    this.tail = (this.tail + 1) % (4096 / this.#entryBytes);
    store(this.small.host.kernel, VtdRegisters.queueTail.address(this.small.host.kernel, this.small.registers), this.tail * this.#entryBytes, 0);
  }

  pushWait(slot: number, value: number): void {
    this.push(waitType, value, hpaOf(this.statusFrame) + slot * 4, 0);
  }

  pushBatch(batch: Batch): void {
    for (let i = 0; i < batch.length; i++) this.push(batch.word(i, 0), batch.word(i, 1), batch.word(i, 2), batch.word(i, 3));
  }

  status(slot: number): number {
    return silent.load(this.small.host.ram, hpaOf(this.statusFrame) + slot * 4);
  }

  get head(): number {
    return VtdRegisters.queueHead.peek(this.small.host.kernel, this.small.registers) / this.#entryBytes;
  }

  get error(): boolean {
    return (VtdRegisters.faultStatus.peek(this.small.host.kernel, this.small.registers) & FaultStatus.QUEUE_ERROR) !== 0;
  }
}
