/** The commands that the driver gives to a unit's queue; a fence ends each batch (`command-submitter.ts`), and a batch asks one device at most. */
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { CommandQueue } from '../../hardware/riscv/command-queue.ts';
import * as commands from '../../hardware/riscv/commands.ts';
import { AtsAddress, Fence } from '../../hardware/riscv/commands.ts';
import { ringLength, RiscvRegisters } from '../../hardware/riscv/registers.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { assert } from '../../kernel/errno.ts';
import { CommandSubmitter, type CommandWords } from '../command-submitter.ts';
import { SubmitTimedOut } from '../events.ts';
import { namedHigh, namedLow } from '../page-block.ts';
import { AfterTimeOut } from '../time-out.ts';
import { QueueFaultHandler } from './queue-fault-handler.ts';
import type { Riscv } from './riscv.ts';
import { RiscvUnitState } from './unit-state.ts';

const fence = commands.fence | Fence.ADDRESS_VALID | Fence.READS | Fence.WRITES;

/** A unit's queue as one thread submits to it. */
export class RiscvSubmitter extends CommandSubmitter {
  readonly faultHandler: QueueFaultHandler;
  readonly #riscv: Riscv;
  readonly #unit: Ref<'IommuUnit'>;
  readonly #engine: CommandQueue;
  /** The device that the batch asks, or -1. */
  #asked = -1;

  constructor(host: Host, unit: Ref<'IommuUnit'>, engine: CommandQueue, riscv: Riscv) {
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
    this.#riscv = riscv;
    this.#unit = unit;
    this.#engine = engine;
    this.faultHandler = new QueueFaultHandler(host, unit, riscv);
  }

  protected waitCommand(at: number, data: number): CommandWords {
    return [fence, data, at >>> 2, 0];
  }

  protected help(): void {
    this.#engine.help();
    if (this.faultHandler.ready()) this.faultHandler.step();
  }

  override submit(): void {
    super.submit();
    this.#asked = -1;
  }

  protected override afterTimeOut(): AfterTimeOut {
    const riscv = this.#riscv;
    const next = riscv.operations.afterTimeOut(riscv, this.#unit, this.#asked);
    if (next !== AfterTimeOut.DONE) SubmitTimedOut.emit(riscv.kernel, IommuUnit.number.peek(riscv.kernel, this.#unit), this.#asked);
    return next;
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

  /** Drops the aligned block of `1 << order` pages around the IOVA from what a device keeps of requests without PASID; all of it for an order of 52. */
  invalidateDeviceTlb(rid: number, iovaHigh: number, iovaLow: number, order: number): this {
    assert(this.#asked < 0, 'a batch asks one device: the unit does not tell which one has not answered');
    this.#asked = rid;
    const [low, high] = order === 0 ? [iovaLow & ~4095, iovaHigh] : [namedLow(iovaLow, order) | AtsAddress.SIZE, namedHigh(iovaHigh, order)];
    return this.push([commands.atsInvalidation(null), commands.toRequester(rid, null), low, high]);
  }

  /** Answers a group of page requests, with a code of PRI. */
  answerPage(rid: number, group: number, code: number, pasid: number | null): this {
    return this.push([commands.pageAnswer(pasid), commands.toRequester(rid, pasid), 0, commands.answerOf(group, code)]);
  }
}
