/**
 * A thread of a process in user mode: its system calls, loads and stores to its memory, and what may befall it before a call where a strategy
 * wants it to.
 */
import { choose, makeLate, read, write } from '#hostmem/atomics';
import { ChosenRefusal, lateLabel } from '#hostmem/fault-injection';
import { label } from '#hostmem/labels';
import type { Ref } from '#hostmem/object';
import { errnoOf, type ErrnoName } from '../kernel/errno.ts';
import { mmap, munmap, userAddress } from '../kernel/process.ts';
import { testIoctl, type TestCommands } from '../kernel/selftest/commands.ts';
import { close, ioctl, open, type Commands } from '../kernel/syscalls.ts';
import { Actor, type Seat } from './actor.ts';
import { Mishap, MishapKind } from './mishap.ts';
import { Mortal } from './mortal.ts';

const ramWord = label('user memory');

export class UserThread extends Actor {
  #mortal: Mortal | null = null;
  #mishap: Mishap | null = null;
  #isLate = false;

  constructor(seat: Seat, processName: string) {
    super(seat);
    this.kernel.enter(this.named(processName) as Ref<'Process'>);
  }

  /** ioctl(2): null, or the errno. What the kernel wrote is in `arg`. */
  ioctl<N extends keyof Commands>(fd: number, command: N, arg: Commands[N]): ErrnoName | null {
    try {
      this.#atUserMode();
      return errnoOf(() => ioctl(this.kernel, fd, command, arg));
    } finally {
      this.#endCall();
    }
  }
  /** An operation of the kernel's selftest, otherwise as `ioctl`. */
  testIoctl<N extends keyof TestCommands>(fd: number, command: N, arg: TestCommands[N]): ErrnoName | null {
    try {
      this.#atUserMode();
      return errnoOf(() => testIoctl(this.kernel, fd, command, arg));
    } finally {
      this.#endCall();
    }
  }

  open(path: string): number {
    this.#atUserMode();
    return open(this.kernel, path);
  }
  close(fd: number): void {
    this.#atUserMode();
    close(this.kernel, fd);
  }

  /**
   * From here to the end of the body the process may be killed before every system call, where a strategy wants it to be; `threads` of its threads
   * may be, and say so. Not for a body of several steps. In a free run nobody is killed.
   */
  mayBeKilled(threads: number = 1): void {
    if (this.host.kernel.control !== null) this.#mortal = new Mortal(this.kernel, threads);
  }

  /** From here to the end of the body a device may be reset before every system call, by this thread; in a free run none is. */
  mayReset(device: string): void {
    this.#mayBefall(MishapKind.RESET, device);
  }
  /** As `mayReset`: unplugged, in the middle of whatever it does, and plugged in again. For a device that a driver of the host's has. */
  mayUnplug(device: string): void {
    this.#mayBefall(MishapKind.UNPLUG, device);
  }
  #mayBefall(kind: (typeof MishapKind)[keyof typeof MishapKind], device: string): void {
    if (this.host.kernel.control !== null) this.#mishap = new Mishap(this.kernel, kind, this.named(device) as Ref<'PciFunction'>);
  }

  /**
   * The hardware may be late while the next ioctl lasts: queues move, and invalidations complete, only when no thread can go on, where a strategy
   * wants it so; never in a free run.
   */
  mayBeLate(): this {
    const memory = this.host.kernel;
    this.#isLate = choose(memory, 2, lateLabel) !== 0;
    if (this.#isLate) makeLate(memory, true);
    return this;
  }

  #atUserMode(): void {
    this.#mortal?.atUserMode();
    this.#mishap?.atUserMode();
  }
  #endCall(): void {
    this.host.kernel.faults = null;
    if (this.#isLate) makeLate(this.host.kernel, false);
    this.#isLate = false;
  }

  override beginBody(): void {
    this.#mortal = null;
    this.#mishap = null;
    this.#isLate = false;
  }
  override endBody(): void {
    this.#mortal?.end();
  }

  /** The next ioctl may be refused one allocation, pin or copy, where a strategy wants it to be; none in a free run. */
  mayBeRefused(): this {
    this.host.kernel.faults = new ChosenRefusal(this.host.kernel);
    return this;
  }

  /** mmap(2) of zeroed, writable memory; returns its address. */
  mmap(lengthBytes: number): bigint {
    return mmap(this.kernel, this.kernel.process, lengthBytes, true, null);
  }
  munmap(va: bigint, lengthBytes: number): void {
    munmap(this.kernel, this.kernel.process, va, BigInt(lengthBytes));
  }

  /** The process's own load and store of a word; a signal (an assertion here) where nothing is mapped. */
  load(va: bigint): number {
    return read(this.host.ram, userAddress(this.kernel, this.kernel.process, va), ramWord);
  }
  store(va: bigint, value: number): void {
    write(this.host.ram, userAddress(this.kernel, this.kernel.process, va), value, ramWord);
  }
}
