/**
 * The engine of a RISC-V IOMMU's command queue: fetches commands in order and carries them out, one a step.
 *
 *   IOTINVAL   moves the epoch on and drops translations
 *   IODIR      drops device contexts, and process contexts
 *   ATS.INVAL  sends the request to the function, possible only when that has taken the one before
 *   ATS.PRGR   goes to the function that asked
 *   IOFENCE    possible only when every request was answered and what was in flight for those has ended; with PR or PW it then marks the transactions in
 *              flight, and is possible again when they have ended; then it writes its data
 *              Where a function is gone and does not answer, time passes: cqcsr.cmd_to, and the fence stays at the head
 *   anything else: cqcsr.cmd_ill; beyond RAM, cqcsr.cqmf
 *
 * After any of these three the queue stops until software clears the bit, and goes on at the head. It is a passive part: it runs when the scheduler picks it, or
 * in a free run when somebody who waits helps.
 */
import { peek, silent } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { everyPasid, orderOfBlock } from '../atc.ts';
import { DeviceTlbs } from '../device-tlbs.ts';
import { Drain } from '../drain.ts';
import { invalidated } from '../events.ts';
import { invalidateLabel, IotlbView } from '../iotlb.ts';
import { deliverAnswer, hasCome } from '../page-requests.ts';
import { takeInAll } from '../request-arrival.ts';
import { IommuUnit } from '../unit.ts';
import { UnitFunctions } from '../unit-functions.ts';
import * as commands from './commands.ts';
import { leafBits } from './device-context.ts';
import { DirectoryCaches, directoryInvalidateLabel } from './directory-caches.ts';
import { AtsAddress, Fence, Invalidate, Opcode } from './commands.ts';
import { isLegal } from './legality.ts';
import { Capability, DdtpMode, QueueStatus, ringAt, ringLength, RiscvRegisters } from './registers.ts';

const fenceLabel = label('RiscvQueue.fence');
const deviceTlbLabel = label('RiscvQueue.deviceTlb');
const timeOutLabel = label('RiscvQueue.timeOut');
const errorLabel = label('RiscvQueue.error');
const stopped = QueueStatus.ILLEGAL | QueueStatus.MEMORY_FAULT | QueueStatus.TIME_OUT;
const widestDeviceId = 24;

export class CommandQueue implements Engine {
  readonly name: string;
  readonly #number: number;
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #registers: Ref<'RiscvRegisters'>;
  readonly #iotlb: IotlbView;
  readonly #directories: DirectoryCaches;
  readonly #deviceTlbs: DeviceTlbs;
  readonly #drain: Drain;
  readonly #unit: Ref<'IommuUnit'>;
  /** `NULL` for a unit that takes no page requests. */
  readonly #requests: Ref<'PageRequests'>;
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
    const functions = new UnitFunctions(kernel, unit);
    this.#deviceTlbs = new DeviceTlbs(host, unit, functions);
    this.#drain = new Drain(kernel, functions);
    this.#unit = unit;
    this.#requests = IommuUnit.pageRequests.peek(kernel, unit);
    this.#tailAt = RiscvRegisters.commandTail.address(kernel, this.#registers);
    this.#helpingAt = RiscvRegisters.helping.address(kernel, this.#registers);
  }

  ready(): boolean {
    const kernel = this.#kernel;
    const status = RiscvRegisters.commandStatus.peek(kernel, this.#registers);
    if ((status & QueueStatus.ON) === 0 || (status & stopped) !== 0) return false;
    if (this.#head() === silent.load(kernel, this.#tailAt)) return false;
    if (!this.#isFetchable()) return true;
    const first = this.#word(0);
    if (commands.opcodeOf(first) === Opcode.IOFENCE) return this.#deviceTlbs.haveAnswered() && this.#drain.done() && this.#haveRequestsCome();
    return !commands.isAtsInvalidation(first) || this.#deviceTlbs.canSend(commands.requesterOf(this.#word(1)));
  }

  /** What a function asks for is ahead of its answer to an invalidation, and no answer is here before that is. */
  #haveRequestsCome(): boolean {
    return this.#requests === NULL || hasCome(this.#kernel, this.#requests);
  }

  /** A fence works in RAM, where it writes; everything else where look-ups and fills are announced. */
  get memory(): Memory {
    return this.#isWrite() ? this.#ram : this.#kernel;
  }

  at(): number {
    if (this.#isWrite()) return this.#fenceAddress();
    return this.#isFetchable() && commands.opcodeOf(this.#word(0)) === Opcode.IODIR && this.#directories.at !== 0 ? this.#directories.at : this.#iotlb.at;
  }

  label(): number {
    if (!this.#isFetchable() || !this.#isLegal()) return errorLabel;
    const opcode = commands.opcodeOf(this.#word(0));
    if (opcode === Opcode.IOFENCE) return this.#deviceTlbs.anyAwaited() ? timeOutLabel : fenceLabel;
    if (opcode === Opcode.ATS) return deviceTlbLabel;
    return opcode === Opcode.IODIR ? directoryInvalidateLabel : invalidateLabel;
  }

  step(): void {
    if (!this.#isFetchable()) this.#stop(QueueStatus.MEMORY_FAULT);
    else if (!this.#isLegal()) this.#stop(QueueStatus.ILLEGAL);
    else if (commands.opcodeOf(this.#word(0)) === Opcode.IOFENCE) this.#fence(this.#word(0), this.#word(1));
    else this.#carryOut(this.#word(0), this.#word(1));
  }

  #carryOut(first: number, second: number): void {
    const opcode = commands.opcodeOf(first);
    if (opcode === Opcode.IOTINVAL) this.#invalidate(first, second);
    else if (opcode === Opcode.IODIR) this.#invalidateDirectory(first, second);
    else if (commands.isPageAnswer(first)) this.#answerPages(second);
    else this.#invalidateDeviceTlb(first, second);
    invalidated.emit(this.#kernel, this.#number, this.#head(), first);
    this.#advance();
  }

  #fence(first: number, data: number): void {
    const kernel = this.#kernel;
    if (this.#deviceTlbs.anyAwaited()) this.#timeOut();
    else if (this.#isDrained(first)) {
      const writes = (first & Fence.ADDRESS_VALID) !== 0;
      if (writes && !this.#isInRam(this.#fenceAddress())) {
        this.#stop(QueueStatus.MEMORY_FAULT);
        return;
      }
      if (RiscvRegisters.unanswered.peek(kernel, this.#registers) === 0) invalidated.emit(kernel, this.#number, this.#head(), first);
      RiscvRegisters.unanswered.poke(kernel, this.#registers, 0);
      // Told before: whoever waits may go on from here.
      if (writes) silent.store(this.#ram, this.#fenceAddress(), data);
      this.#advance();
    }
  }

  /** Virtual time: whoever is there has answered. */
  #timeOut(): void {
    for (let mute = this.#deviceTlbs.giveUp(); mute >= 0; mute = this.#deviceTlbs.giveUp()) {
      RiscvRegisters.unanswered.poke(this.#kernel, this.#registers, 1);
      this.#stop(QueueStatus.TIME_OUT);
    }
  }

  #stop(reason: number): void {
    RiscvRegisters.commandStatus.poke(this.#kernel, this.#registers, RiscvRegisters.commandStatus.peek(this.#kernel, this.#registers) | reason);
  }

  #advance(): void {
    const length = ringLength(RiscvRegisters.commandQueue.peek(this.#kernel, this.#registers));
    RiscvRegisters.commandHead.poke(this.#kernel, this.#registers, (this.#head() + 1) % length);
  }

  /** Free runs: carries out what is ready, unless another thread is already at it. */
  help(): void {
    const kernel = this.#kernel;
    if (kernel.control !== null) return;
    if (this.#requests !== NULL) takeInAll(kernel, this.#requests);
    if (!this.ready() && !this.#deviceTlbs.anyAwaited()) return;
    if (silent.compareExchange(kernel, this.#helpingAt, 0, 1) !== 0) return;
    for (;;) {
      this.#deviceTlbs.help();
      if (!this.ready()) break;
      this.step();
    }
    silent.store(kernel, this.#helpingAt, 0);
  }

  /** What is left out of the command widens it. This unit's cache is tagged with the process's address space alone. */
  #invalidate(first: number, second: number): void {
    const isOfProcess = commands.funcOf(first) === 0 && (second & Invalidate.PSCV) !== 0;
    if (!isOfProcess) this.#iotlb.invalidateAll();
    else if ((first & Invalidate.ADDRESS_VALID) === 0) this.#iotlb.invalidateDomain(commands.pscidOf(first));
    else {
      const third = this.#word(2);
      const [high, low] = [commands.addressHigh(third, this.#word(3)), commands.addressLow(third)];
      this.#iotlb.invalidatePages(commands.pscidOf(first), high, low, (third & commands.isRange) === 0 ? 0 : orderOfBlock(high, low));
    }
  }

  #invalidateDeviceTlb(first: number, second: number): void {
    const [low, high] = [this.#word(2), this.#word(3)];
    const pasid = !commands.hasPasid(second) ? -1 : (low & AtsAddress.GLOBAL) !== 0 ? everyPasid : commands.processIdOf(first);
    this.#deviceTlbs.send(commands.requesterOf(second), pasid, high, low & ~4095, (low & AtsAddress.SIZE) === 0 ? 0 : orderOfBlock(high, low));
  }

  /** A function that waits for no such answer drops it, and behind a unit without a queue of page requests none waits. */
  #answerPages(second: number): void {
    const fourth = this.#word(3);
    if (this.#requests !== NULL) deliverAnswer(this.#kernel, this.#unit, commands.requesterOf(second), commands.groupOf(fourth), commands.codeOf(fourth));
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

  /** Whether the next step is one that writes: the last of a fence. */
  #isWrite(): boolean {
    if (!this.#isFetchable() || !this.#isLegal()) return false;
    const first = this.#word(0);
    if (commands.opcodeOf(first) !== Opcode.IOFENCE || (first & Fence.ADDRESS_VALID) === 0 || this.#deviceTlbs.anyAwaited()) return false;
    if (!this.#isInRam(this.#fenceAddress())) return false;
    return (first & (Fence.READS | Fence.WRITES)) === 0 || RiscvRegisters.fencing.peek(this.#kernel, this.#registers) !== 0;
  }

  #fenceAddress(): number {
    return commands.fenceAddress(this.#word(2), this.#word(3));
  }

  #isLegal(): boolean {
    const kernel = this.#kernel;
    const capabilities = RiscvRegisters.capabilities.peek(kernel, this.#registers);
    const mode = RiscvRegisters.ddtp.peek(kernel, this.#registers) & 15;
    return isLegal(this.#word(0), this.#word(1), this.#word(2), this.#word(3), {
      capabilities,
      capabilitiesHigh: RiscvRegisters.capabilities.peekHigh(kernel, this.#registers),
      deviceBits: mode <= DdtpMode.BARE ? widestDeviceId : Math.min(leafBits((capabilities & Capability.MSI_FLAT) !== 0) + 9 * (mode - DdtpMode.LEVELS1), widestDeviceId),
    });
  }

  #head(): number {
    return RiscvRegisters.commandHead.peek(this.#kernel, this.#registers);
  }

  /** Where the command at the head is. */
  #commandAt(): number {
    return ringAt(RiscvRegisters.commandQueue.peek(this.#kernel, this.#registers)) + this.#head() * commands.commandBytes;
  }

  #isFetchable(): boolean {
    return RiscvRegisters.commandQueue.peekHigh(this.#kernel, this.#registers) === 0 && this.#isInRam(this.#commandAt());
  }

  #isInRam(at: number): boolean {
    return at < this.#ram.sizeBytes;
  }

  /** A word of the command at the head. */
  #word(index: number): number {
    return peek(this.#ram, this.#commandAt() + index * 4);
  }
}
