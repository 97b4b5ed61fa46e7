/**
 * Submission to a unit's command queue (the kernel's `riscv_iommu_cmd_send` and `riscv_iommu_cmd_sync`).
 *
 *   status word   FREE -> IN_USE   by the submitter, under the queue's lock
 *                 IN_USE -> DONE   by hardware: the write of a fence, to RAM
 *                 DONE -> FREE     by the submitter
 *
 * The kernel polls the head; here a fence writes a word of its slot, so that a controlled run knows what it waits for. The lock is a
 * leaf: writing commands and moving the tail are one step, announced at the tail. In a free run who waits helps the engine.
 */
import { lockLeaf, Op, peek, poke, silent, sleepWhile, unlockLeaf, Until } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import { hpaOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { CommandQueue } from '../../hardware/riscv/command-queue.ts';
import * as commands from '../../hardware/riscv/commands.ts';
import { commandBytes, Fence } from '../../hardware/riscv/commands.ts';
import { RiscvRegisters } from '../../hardware/riscv/registers.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { assert } from '../../kernel/errno.ts';
import { RiscvUnitState } from './unit-state.ts';

export const ringLength = pageBytes / commandBytes;
/** Most commands that `submit` takes. */
export const mostCommands = 32;

const Status = { FREE: 0, IN_USE: 1, DONE: 2 } as const;
const fence = commands.fence | Fence.ADDRESS_VALID | Fence.READS | Fence.WRITES;
const statusLabel = label('RiscvQueue.status');
/** How often a waiter helps before it gives its core away for a moment: a device may have been descheduled in mid-transfer. */
const helpsBeforeSleep = 20;
const momentMs = 0.05;

/** A unit's queue as one thread submits to it. */
export class CommandRing {
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #engine: CommandQueue;
  readonly #ringAt: number;
  readonly #statusAt: number;
  readonly #headAt: number;
  readonly #tailAt: number;
  readonly #lockAt: number;
  readonly #words = new Int32Array(mostCommands * 4);
  #count = 0;

  constructor({ kernel, ram }: Host, unit: Ref<'IommuUnit'>, engine: CommandQueue) {
    const state = IommuUnit.driverData.peek(kernel, unit) as Ref<'RiscvUnitState'>;
    const registers = IommuUnit.registers.peek(kernel, unit) as Ref<'RiscvRegisters'>;
    this.#kernel = kernel;
    this.#ram = ram;
    this.#engine = engine;
    this.#ringAt = hpaOf(RiscvUnitState.queue.peek(kernel, state) as Frame);
    this.#statusAt = hpaOf(RiscvUnitState.queueStatus.peek(kernel, state) as Frame);
    this.#headAt = RiscvRegisters.commandHead.address(kernel, registers);
    this.#tailAt = RiscvRegisters.commandTail.address(kernel, registers);
    this.#lockAt = RiscvUnitState.queueLock.address(kernel, state);
  }

  /** Drops what is known of a device's context. */
  invalidateDevice(deviceId: number): this {
    return this.#push(commands.invalidateDdt, commands.oneDevice(deviceId), 0, 0);
  }

  /** Drops the translations of an address space. */
  invalidateSpace(pscid: number): this {
    return this.#push(commands.invalidateVma | (pscid << 12), commands.Invalidate.PSCV, 0, 0);
  }

  /** Drops the translation of one of its pages. */
  invalidatePage(pscid: number, iovaHigh: number, iovaLow: number): this {
    const first = commands.invalidateVma | commands.Invalidate.ADDRESS_VALID | (pscid << 12);
    return this.#push(first, commands.Invalidate.PSCV, (iovaLow >>> 2) | (iovaHigh << 30), iovaHigh >>> 2);
  }

  get isFull(): boolean {
    return this.#count === mostCommands;
  }

  /** Has the commands carried out, and waits until they are and all DMA that was in flight has ended. */
  submit(): void {
    const at = this.#enqueue();
    this.#waitUntilDone(at);
    poke(this.#ram, at, Status.FREE);
  }

  #push(first: number, second: number, third: number, fourth: number): this {
    assert(!this.isFull, `a batch holds ${mostCommands} commands`);
    this.#words.set([first, second, third, fourth], this.#count++ * 4);
    return this;
  }

  /** Writes the commands and a fence behind them, and moves the tail; returns where the fence will write. */
  #enqueue(): number {
    const kernel = this.#kernel;
    if (kernel.control !== null) kernel.control.point(Op.STORE, kernel, this.#tailAt, RiscvRegisters.commandTail.label);
    lockLeaf(kernel, this.#lockAt);
    while (!this.#hasRoom()) {
      assert(kernel.control === null, `a controlled run has so few actors that a ring of ${ringLength} commands has room for all`);
      unlockLeaf(kernel, this.#lockAt);
      this.#engine.help();
      lockLeaf(kernel, this.#lockAt);
    }
    const first = peek(kernel, this.#tailAt);
    const end = (first + this.#count) % ringLength;
    const status = this.#statusAt + end * 4;
    for (let i = 0; i < this.#count; i++) for (let word = 0; word < 4; word++) this.#write((first + i) % ringLength, word, this.#words[i * 4 + word]!);
    [fence, Status.DONE, status >>> 2, 0].forEach((value, word) => this.#write(end, word, value));
    poke(this.#ram, status, Status.IN_USE);
    this.#count = 0;
    silent.store(kernel, this.#tailAt, (end + 1) % ringLength);
    if (kernel.control !== null) kernel.control.saw(end);
    unlockLeaf(kernel, this.#lockAt);
    return status;
  }

  /** One slot is kept free: a full ring would look empty. The word that the fence is to write may still be somebody's. */
  #hasRoom(): boolean {
    const tail = peek(this.#kernel, this.#tailAt);
    const used = (tail - silent.load(this.#kernel, this.#headAt) + ringLength) % ringLength;
    const end = (tail + this.#count) % ringLength;
    return used + this.#count + 1 < ringLength && peek(this.#ram, this.#statusAt + end * 4) === Status.FREE;
  }

  #write(slot: number, word: number, value: number): void {
    poke(this.#ram, this.#ringAt + slot * commandBytes + word * 4, value);
  }

  #waitUntilDone(at: number): void {
    const ram = this.#ram;
    if (ram.control !== null) {
      ram.control.pointWhen(Op.WAIT, ram, at, statusLabel, -1, Until.EQUAL, Status.DONE);
      ram.control.saw(Status.DONE);
      return;
    }
    for (let helps = 0; silent.load(ram, at) !== Status.DONE; helps++) {
      this.#engine.help();
      if (helps > helpsBeforeSleep) sleepWhile(ram, at, Status.IN_USE, momentMs);
    }
  }
}
