/** The commands that the driver gives to a unit's queue; a fence ends each batch (`command-submitter.ts`). */
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { CommandQueue } from '../../hardware/riscv/command-queue.ts';
import * as commands from '../../hardware/riscv/commands.ts';
import { Fence } from '../../hardware/riscv/commands.ts';
import { ringLength, RiscvRegisters } from '../../hardware/riscv/registers.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { CommandSubmitter, type CommandWords } from '../command-submitter.ts';
import { RiscvUnitState } from './unit-state.ts';

const fence = commands.fence | Fence.ADDRESS_VALID | Fence.READS | Fence.WRITES;

/** A unit's queue as one thread submits to it. */
export class RiscvSubmitter extends CommandSubmitter {
  readonly #engine: CommandQueue;

  constructor(host: Host, unit: Ref<'IommuUnit'>, engine: CommandQueue) {
    const { kernel } = host;
    const state = IommuUnit.driverData.peek(kernel, unit) as Ref<'RiscvUnitState'>;
    const registers = IommuUnit.registers.peek(kernel, unit) as Ref<'RiscvRegisters'>;
    super(host, {
      unit: IommuUnit.number.peek(kernel, unit),
      commands: RiscvUnitState.queue.peek(kernel, state) as Frame,
      status: RiscvUnitState.queueStatus.peek(kernel, state) as Frame,
      headAt: RiscvRegisters.commandHead.address(kernel, registers),
      tailAt: RiscvRegisters.commandTail.address(kernel, registers),
      lockAt: RiscvUnitState.queueLock.address(kernel, state),
      tailLabel: RiscvRegisters.commandTail.label,
      length: ringLength(RiscvRegisters.commandQueue.peek(kernel, registers)),
    });
    this.#engine = engine;
  }

  protected waitCommand(at: number, data: number): CommandWords {
    return [fence, data, at >>> 2, 0];
  }

  protected help(): void {
    this.#engine.help();
  }

  /** Drops what is known of a device's context. */
  invalidateDevice(deviceId: number): this {
    return this.push([commands.invalidateDdt, commands.oneDevice(deviceId), 0, 0]);
  }

  /** Drops the translations of an address space. */
  invalidateSpace(pscid: number): this {
    return this.push([commands.invalidateVma | (pscid << 12), commands.Invalidate.PSCV, 0, 0]);
  }

  /** Drops the translation of one of its pages. */
  invalidatePage(pscid: number, iovaHigh: number, iovaLow: number): this {
    const first = commands.invalidateVma | commands.Invalidate.ADDRESS_VALID | (pscid << 12);
    return this.push([first, commands.Invalidate.PSCV, (iovaLow >>> 2) | (iovaHigh << 30), iovaHigh >>> 2]);
  }
}
