/**
 * What the driver does when a unit's invalidation queue has stopped at a bad descriptor (the kernel's `qi_check_fault`).
 *
 * It puts a wait without effect in the descriptor's place, marks the slot aborted so that its submitter gets EINVAL, and lets
 * the queue go on. The kernel does this on a waiter's CPU while it polls; here it is a passive part, so that a waiter that sleeps
 * in a controlled run is not left alone with a stopped queue.
 */
import { lockLeaf, poke, unlockLeaf } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import { Descriptor } from '../../hardware/vtd/descriptors.ts';
import { changeFaultStatus } from '../../hardware/vtd/faults.ts';
import { FaultStatus, VtdRegisters } from '../../hardware/vtd/registers.ts';
import { SlotStatus } from './queue.ts';
import { VtdUnitState } from './unit-state.ts';
import type { VtdUnit } from './vtd.ts';

const handleLabel = label('VtdQueue.handleFault');

export class QueueFaultHandler implements Engine {
  readonly name: string;
  readonly memory: Memory;
  readonly #ram: Memory;
  readonly #unit: VtdUnit;

  constructor(host: Host, unit: VtdUnit) {
    this.name = `${unit.queue.name}-fault`;
    this.memory = host.kernel;
    this.#ram = host.ram;
    this.#unit = unit;
  }

  ready(): boolean {
    return (VtdRegisters.faultStatus.peek(this.memory, this.#unit.registers) & FaultStatus.QUEUE_ERROR) !== 0;
  }

  at(): number {
    return VtdRegisters.queueTail.address(this.memory, this.#unit.registers);
  }

  label(): number {
    return handleLabel;
  }

  step(): void {
    const kernel = this.memory;
    const { registers, state } = this.#unit;
    const lock = VtdUnitState.queueLock.address(kernel, state);
    lockLeaf(kernel, lock);
    if (this.ready()) {
      const headBytes = VtdRegisters.queueHead.peek(kernel, registers);
      for (let word = 0; word < 4; word++) poke(this.#ram, this.#unit.ringAt + headBytes + word * 4, word === 0 ? Descriptor.WAIT : 0);
      poke(this.#ram, this.#unit.statusAt + (headBytes / this.#unit.descriptorBytes) * 4, SlotStatus.ABORTED);
      changeFaultStatus(kernel, registers, 0, FaultStatus.QUEUE_ERROR);
    }
    unlockLeaf(kernel, lock);
  }
}
