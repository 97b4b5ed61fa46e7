/**
 * What the driver does when a unit's invalidation queue has stopped at a bad descriptor, or for a device that did not answer (the kernel's
 * `qi_check_fault`). In the second case the wait before the head was dropped: its slot is marked, with the requester, and its submitter sees to the rest.
 *
 * In the first it puts a wait without effect in the descriptor's place, marks the slot aborted so that its submitter gets EINVAL, and lets
 * the queue go on. The kernel does this on a waiter's CPU while it polls; here it is a passive part, so that a waiter that sleeps
 * in a controlled run is not left alone with a stopped queue.
 */
import { lockLeaf, poke, silent, unlockLeaf } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import { Descriptor } from '../../hardware/vtd/descriptors.ts';
import { changeFaultStatus } from '../../hardware/vtd/faults.ts';
import { FaultStatus, VtdRegisters } from '../../hardware/vtd/registers.ts';
import { SlotStatus, sourceShift } from './queue.ts';
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
    return (VtdRegisters.faultStatus.peek(this.memory, this.#unit.registers) & (FaultStatus.QUEUE_ERROR | FaultStatus.TIME_OUT)) !== 0;
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
    const status = VtdRegisters.faultStatus.peek(kernel, registers);
    if ((status & FaultStatus.TIME_OUT) !== 0) this.#markDropped();
    else if ((status & FaultStatus.QUEUE_ERROR) !== 0) {
      const headBytes = VtdRegisters.queueHead.peek(kernel, registers);
      for (let word = 0; word < 4; word++) poke(this.#ram, this.#unit.ringAt + headBytes + word * 4, word === 0 ? Descriptor.WAIT : 0);
      poke(this.#ram, this.#unit.statusAt + (headBytes / this.#unit.descriptorBytes) * 4, SlotStatus.ABORTED);
      changeFaultStatus(kernel, registers, 0, FaultStatus.QUEUE_ERROR);
    }
    unlockLeaf(kernel, lock);
  }

  /** Under the queue's lock. */
  #markDropped(): void {
    const { registers, ringLength, descriptorBytes, statusAt } = this.#unit;
    const head = VtdRegisters.queueHead.peek(this.memory, registers) / descriptorBytes;
    const dropped = (head + ringLength - 1) % ringLength;
    silent.store(this.#ram, statusAt + dropped * 4, SlotStatus.ABORTED | (VtdRegisters.timedOutSource.peek(this.memory, registers) << sourceShift));
    changeFaultStatus(this.memory, registers, 0, FaultStatus.TIME_OUT);
  }
}
