/**
 * The engine of a RISC-V IOMMU's command queue: fetches commands in order and carries them out, one a step.
 *
 *   IOTINVAL   moves the epoch on and drops translations
 *   IODIR      drops device contexts, and process contexts
 *   IOFENCE    with PR or PW first marks the transactions in flight, then is possible only when they have ended; then writes its data
 *   anything else: cqcsr.cmd_ill, and the queue stops at it until software clears the bit
 *
 * It is a passive part: it runs when the scheduler picks it, or in a free run when somebody who waits helps.
 */
import { peek, silent } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Drain } from '../drain.ts';
import { invalidated } from '../events.ts';
import { invalidateLabel, IotlbView } from '../iotlb.ts';
import { IommuUnit } from '../unit.ts';
import { UnitFunctions } from '../unit-functions.ts';
import * as commands from './commands.ts';
import { DirectoryCaches, directoryInvalidateLabel } from './directory-caches.ts';
import { Fence, Invalidate, Opcode } from './commands.ts';
import { QueueStatus, ringAt, ringLength, RiscvRegisters } from './registers.ts';

const fenceLabel = label('RiscvQueue.fence');
const errorLabel = label('RiscvQueue.error');
const stopped = QueueStatus.ILLEGAL | QueueStatus.MEMORY_FAULT;

export class CommandQueue implements Engine {
  readonly name: string;
  readonly #number: number;
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #registers: Ref<'RiscvRegisters'>;
  readonly #iotlb: IotlbView;
  readonly #directories: DirectoryCaches;
  readonly #drain: Drain;
  readonly #tailAt: number;
  readonly #helpingAt: number;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const kernel = host.kernel;
    this.#number = IommuUnit.number.peek(kernel, unit);
    this.name = `riscv${this.#number}.queue`;
    this.#kernel = kernel;
    this.#ram = host.ram;
    this.#registers = IommuUnit.registers.peek(kernel, unit) as Ref<'RiscvRegisters'>;
    this.#iotlb = new IotlbView(kernel, IommuUnit.iotlb.peek(kernel, unit));
    this.#directories = new DirectoryCaches(kernel, unit);
    this.#drain = new Drain(kernel, new UnitFunctions(kernel, unit));
    this.#tailAt = RiscvRegisters.commandTail.address(kernel, this.#registers);
    this.#helpingAt = RiscvRegisters.helping.address(kernel, this.#registers);
  }

  ready(): boolean {
    const kernel = this.#kernel;
    const status = RiscvRegisters.commandStatus.peek(kernel, this.#registers);
    if ((status & QueueStatus.ON) === 0 || (status & stopped) !== 0) return false;
    if (this.#head() === silent.load(kernel, this.#tailAt)) return false;
    return RiscvRegisters.fencing.peek(kernel, this.#registers) === 0 || this.#drain.done();
  }

  /** A fence works in RAM, where it writes; everything else where look-ups and fills are announced. */
  get memory(): Memory {
    return this.#isWrite() ? this.#ram : this.#kernel;
  }

  at(): number {
    if (this.#isWrite()) return commands.fenceAddress(this.#word(2));
    return commands.opcodeOf(this.#word(0)) === Opcode.IODIR && this.#directories.at !== 0 ? this.#directories.at : this.#iotlb.at;
  }

  label(): number {
    const first = this.#word(0);
    if (!commands.isLegal(first, this.#word(1))) return errorLabel;
    const opcode = commands.opcodeOf(first);
    return opcode === Opcode.IOFENCE ? fenceLabel : opcode === Opcode.IODIR ? directoryInvalidateLabel : invalidateLabel;
  }

  step(): void {
    const first = this.#word(0);
    const second = this.#word(1);
    const kernel = this.#kernel;
    if (!commands.isLegal(first, second)) {
      RiscvRegisters.commandStatus.poke(kernel, this.#registers, RiscvRegisters.commandStatus.peek(kernel, this.#registers) | QueueStatus.ILLEGAL);
      return;
    }
    const opcode = commands.opcodeOf(first);
    if (opcode === Opcode.IOTINVAL) this.#invalidate(first, second);
    if (opcode === Opcode.IODIR) this.#invalidateDirectory(first, second);
    if (opcode === Opcode.IOFENCE && !this.#isDrained(first)) return;
    invalidated.emit(kernel, this.#number, this.#head(), first);
    if (opcode === Opcode.IOFENCE) this.#write(first, second);
    const length = ringLength(RiscvRegisters.commandQueue.peek(kernel, this.#registers));
    RiscvRegisters.commandHead.poke(kernel, this.#registers, (this.#head() + 1) % length);
  }

  /** Free runs: carries out what is ready, unless another thread is already at it. */
  help(): void {
    const kernel = this.#kernel;
    if (kernel.control !== null || !this.ready()) return;
    if (silent.compareExchange(kernel, this.#helpingAt, 0, 1) !== 0) return;
    while (this.ready()) this.step();
    silent.store(kernel, this.#helpingAt, 0);
  }

  /** What is left out of the command widens it. This unit's cache is tagged with the process's address space alone. */
  #invalidate(first: number, second: number): void {
    const isOfProcess = commands.funcOf(first) === 0 && (second & Invalidate.PSCV) !== 0;
    if (!isOfProcess) this.#iotlb.invalidateAll();
    else if ((first & Invalidate.ADDRESS_VALID) === 0) this.#iotlb.invalidateDomain(commands.pscidOf(first));
    else {
      const third = this.#word(2);
      this.#iotlb.invalidatePages(commands.pscidOf(first), commands.addressHigh(third, this.#word(3)), commands.addressLow(third), 0);
    }
  }

  #invalidateDirectory(first: number, second: number): void {
    const deviceId = commands.namesDevice(second) ? commands.deviceIdOf(second) : null;
    if (commands.funcOf(first) === 0 || deviceId === null) this.#directories.invalidateDevice(deviceId);
    else this.#directories.invalidateProcess(deviceId, commands.processIdOf(first));
  }

  /** Whether what a fence waits for has ended: with PR or PW it takes two steps, and what was in flight at the first one has ended by the second. */
  #isDrained(first: number): boolean {
    const kernel = this.#kernel;
    const waits = (first & (Fence.READS | Fence.WRITES)) !== 0;
    if (waits && RiscvRegisters.fencing.peek(kernel, this.#registers) === 0) {
      this.#drain.mark((first & Fence.READS) !== 0, (first & Fence.WRITES) !== 0);
      RiscvRegisters.fencing.poke(kernel, this.#registers, 1);
      return false;
    }
    RiscvRegisters.fencing.poke(kernel, this.#registers, 0);
    return true;
  }

  #write(first: number, data: number): void {
    if ((first & Fence.ADDRESS_VALID) !== 0) silent.store(this.#ram, commands.fenceAddress(this.#word(2)), data);
  }

  /** Whether the next step is one that writes: the last of a fence. */
  #isWrite(): boolean {
    const first = this.#word(0);
    if (commands.opcodeOf(first) !== Opcode.IOFENCE || (first & Fence.ADDRESS_VALID) === 0) return false;
    return (first & (Fence.READS | Fence.WRITES)) === 0 || RiscvRegisters.fencing.peek(this.#kernel, this.#registers) !== 0;
  }

  #head(): number {
    return RiscvRegisters.commandHead.peek(this.#kernel, this.#registers);
  }

  /** A word of the command at the head. */
  #word(index: number): number {
    const base = ringAt(RiscvRegisters.commandQueue.peek(this.#kernel, this.#registers));
    return peek(this.#ram, base + this.#head() * commands.commandBytes + index * 4);
  }
}
