/**
 * Submission of 16-byte commands where every batch ends in a wait of its own (the kernel's `riscv_iommu_cmd_send` and `_sync`,
 * `arm_smmu_cmdq_issue_cmdlist`).
 *
 *   status word   FREE -> IN_USE              by the submitter, under the ring's lock
 *                 IN_USE -> DONE or ABORTED   by hardware: the write of the wait, to RAM
 *                 DONE or ABORTED -> FREE     by the submitter
 *
 * ABORTED is of a wait that timed out, in which software has changed what it writes (of a unit that asks devices: `riscv/queue-fault-handler.ts`).
 *
 * RISC-V's kernel polls the head, Arm's the command in the ring; here a wait writes a word of its slot, so that a controlled run knows what it
 * waits for. The lock is a leaf: writing commands and moving the tail are one step, announced at the tail. In a free run who waits helps.
 */
import { lockLeaf, Op, peek, poke, silent, sleepWhile, unlockLeaf, Until } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import { hpaOf, type Frame, type Memory } from '#hostmem/memory';
import { assert } from '../kernel/errno.ts';
import { InvalidationQueued, SubmitReturned } from './events.ts';
import { AfterTimeOut } from './time-out.ts';

/** Most commands that `submit` takes, beside its wait: those of SMMUv3's vIOMMUs are the most at once (`smmuv3/viommu.ts`). */
const mostCommands = 63;
/** Flushes page by page are handed over at this many. */
const pageCommands = 32;
export const commandBytes = 16;
export const SubmissionStatus = { FREE: 0, IN_USE: 1, DONE: 2, ABORTED: 3 } as const;
/** In DONE and ABORTED, and in no other. */
const isOver = 2;
const statusLabel = label('UnitCommandRing.status');
/** How often a waiter helps before it gives its core away for a moment: a device may have been descheduled in mid-transfer. */
const helpsBeforeSleep = 20;
const momentMs = 0.05;

export type CommandWords = readonly [number, number, number, number];

/** Where a ring is: frames of the commands and of a status word for each; byte addresses in kernel memory of head, tail and lock. */
export interface RingPlace {
  readonly unit: number;
  readonly commands: Frame;
  readonly status: Frame;
  readonly headAt: number;
  readonly tailAt: number;
  readonly lockAt: number;
  readonly tailLabel: number;
  readonly length: number;
}

export abstract class CommandSubmitter {
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #place: RingPlace;
  readonly #words = new Int32Array(mostCommands * 4);
  #count = 0;

  constructor({ kernel, ram }: Host, place: RingPlace) {
    this.#kernel = kernel;
    this.#ram = ram;
    this.#place = place;
  }

  /** A wait that writes `data` to a word of RAM. */
  protected abstract waitCommand(at: number, data: number): CommandWords;
  /** Free runs: carries commands out. */
  protected abstract help(): void;
  /** What becomes of the batch, whose wait was aborted. Only a unit that asks devices has such waits. */
  protected afterTimeOut(): AfterTimeOut {
    assert(false, 'a wait that waits for no device was aborted');
  }

  get isFull(): boolean {
    return this.#count >= pageCommands;
  }

  push(command: CommandWords): this {
    assert(this.#count < mostCommands, `a batch holds ${mostCommands} commands`);
    this.#words.set(command, this.#count++ * 4);
    return this;
  }

  /** Has the commands carried out, and waits until they are and all DMA that was in flight has ended, or (`afterTimeOut`) until that is given up. */
  submit(): void {
    // Before the first point: a schedule that is abandoned there leaves nothing to the next batch.
    const count = this.#count;
    this.#count = 0;
    for (;;) {
      const at = this.#enqueue(count);
      const status = this.#waitUntilDone(at);
      poke(this.#ram, at, SubmissionStatus.FREE);
      const next = status === SubmissionStatus.DONE ? AfterTimeOut.DONE : this.afterTimeOut();
      if (next === AfterTimeOut.DONE) {
        SubmitReturned.emit(this.#kernel, this.#place.unit);
        return;
      }
      if (next === AfterTimeOut.GIVE_UP) return;
    }
  }

  /** Writes so many of the commands and a wait behind them, and moves the tail; returns where the wait will write. */
  #enqueue(count: number): number {
    const kernel = this.#kernel;
    const { tailAt, lockAt, tailLabel, length } = this.#place;
    if (kernel.control !== null) kernel.control.point(Op.STORE, kernel, tailAt, tailLabel);
    lockLeaf(kernel, lockAt);
    while (!this.#hasRoom(count)) {
      assert(kernel.control === null, `a controlled run has so few actors that a ring of ${length} commands has room for all`);
      unlockLeaf(kernel, lockAt);
      this.help();
      lockLeaf(kernel, lockAt);
    }
    const first = peek(kernel, tailAt);
    const end = (first + count) % length;
    const status = this.#statusOf(end);
    for (let i = 0; i < count; i++) this.#write((first + i) % length, this.#words.subarray(i * 4, i * 4 + 4));
    this.#write(end, this.waitCommand(status, SubmissionStatus.DONE));
    poke(this.#ram, status, SubmissionStatus.IN_USE);
    silent.store(kernel, tailAt, (end + 1) % length);
    if (kernel.control !== null) kernel.control.saw(end);
    unlockLeaf(kernel, lockAt);
    return status;
  }

  /** One slot is kept free: a full ring would look empty. The word that the wait is to write may still be somebody's. */
  #hasRoom(count: number): boolean {
    const { headAt, tailAt, length } = this.#place;
    const tail = peek(this.#kernel, tailAt);
    const used = (tail - silent.load(this.#kernel, headAt) + length) % length;
    const end = (tail + count) % length;
    return used + count + 1 < length && peek(this.#ram, this.#statusOf(end)) === SubmissionStatus.FREE;
  }

  #statusOf(slot: number): number {
    return hpaOf(this.#place.status) + slot * 4;
  }

  #write(slot: number, command: ArrayLike<number>): void {
    const at = hpaOf(this.#place.commands) + slot * commandBytes;
    for (let word = 0; word < 4; word++) poke(this.#ram, at + word * 4, command[word]!);
    InvalidationQueued.emit(this.#kernel, this.#place.unit, slot, command[0]!, command[1]!, command[2]!);
  }

  /** DONE or ABORTED. */
  #waitUntilDone(at: number): number {
    const ram = this.#ram;
    if (ram.control !== null) {
      ram.control.pointWhen(Op.WAIT, ram, at, statusLabel, isOver, Until.EQUAL, isOver);
      ram.control.saw(peek(ram, at));
      return peek(ram, at);
    }
    for (let helps = 0; (silent.load(ram, at) & isOver) === 0; helps++) {
      this.help();
      if (helps > helpsBeforeSleep) sleepWhile(ram, at, SubmissionStatus.IN_USE, momentMs);
    }
    return silent.load(ram, at);
  }
}
