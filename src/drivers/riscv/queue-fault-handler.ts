/**
 * What the driver does when a unit's command queue has stopped for a device that did not answer (cqcsr.cmd_to). The fence that waited for it is at the head:
 * it is changed to write that it was aborted, and the queue goes on. Its submitter sees to the rest.
 *
 * Forward-looking: Linux 7.2 has no ATS on RISC-V, and its `riscv_iommu_cmdq_process` clears the bit, warns, and tells nobody who waits. As with VT-d this is
 * a passive part, so that who waits in a controlled run is not left alone with a stopped queue.
 */
import { lockLeaf, poke, unlockLeaf } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { commandBytes } from '../../hardware/riscv/commands.ts';
import { QueueStatus, ringAt, RiscvRegisters } from '../../hardware/riscv/registers.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { SubmissionStatus } from '../command-submitter.ts';
import type { Riscv } from './riscv.ts';
import { RiscvUnitState } from './unit-state.ts';

const handleLabel = label('RiscvQueue.handleFault');

export class QueueFaultHandler implements Engine {
  readonly name: string;
  readonly memory: Memory;
  readonly #registers: Ref<'RiscvRegisters'>;
  readonly #riscv: Riscv;
  readonly #lockAt: number;
  readonly #tailAt: number;

  constructor({ kernel }: Host, unit: Ref<'IommuUnit'>, riscv: Riscv) {
    this.memory = kernel;
    this.name = `riscv${IommuUnit.number.peek(kernel, unit)}.queue-fault`;
    this.#registers = IommuUnit.registers.peek(kernel, unit) as Ref<'RiscvRegisters'>;
    this.#riscv = riscv;
    this.#lockAt = RiscvUnitState.queueLock.address(kernel, IommuUnit.driverData.peek(kernel, unit) as Ref<'RiscvUnitState'>);
    this.#tailAt = RiscvRegisters.commandTail.address(kernel, this.#registers);
  }

  ready(): boolean {
    return (RiscvRegisters.commandStatus.peek(this.memory, this.#registers) & QueueStatus.TIME_OUT) !== 0;
  }

  at(): number {
    return this.#tailAt;
  }

  label(): number {
    return handleLabel;
  }

  step(): void {
    lockLeaf(this.memory, this.#lockAt);
    if (this.ready()) {
      this.#riscv.operations.markAborted(this.#riscv, this.#registers);
      RiscvRegisters.commandStatus.poke(this.memory, this.#registers, RiscvRegisters.commandStatus.peek(this.memory, this.#registers) & ~QueueStatus.TIME_OUT);
    }
    unlockLeaf(this.memory, this.#lockAt);
  }
}

/** Changes what the fence at the head will write. */
export function markAborted({ kernel, ram }: Riscv, registers: Ref<'RiscvRegisters'>): void {
  const fence = ringAt(RiscvRegisters.commandQueue.peek(kernel, registers)) + RiscvRegisters.commandHead.peek(kernel, registers) * commandBytes;
  poke(ram, fence + 4, SubmissionStatus.ABORTED);
}
