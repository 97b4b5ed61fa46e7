/** A step of a random program: one call of a table, with random arguments, told before and after to whoever judges its errno. */
import { FaultInjection } from '#hostmem/fault-injection';
import { Errno, errnoNumber, type ErrnoName } from '../../kernel/errno.ts';
import { StormCalled, StormReturned } from '../../kernel/events.ts';
import { testIoctl, type TestCommands } from '../../kernel/selftest/commands.ts';
import { close, ioctl, open, read, write, type Commands } from '../../kernel/syscalls.ts';
import type { Vm } from '../vm.ts';
import { stormCallNumber, type StormCallName } from '../../kernel/storm-calls.ts';

/** What all threads of a process share. */
export interface StormStage {
  /** The descriptor of `/dev/iommu`, which nobody closes. */
  readonly iommufd: number;
  /** Pages that can be mapped; behind them nothing is. */
  readonly va: number;
  readonly pages: number;
  /** Numbers of character devices that can be opened. */
  readonly vfio: readonly number[];
}

/** Descriptors above this one are closed by who opens them, and objects above that id destroyed: else a free run would never stop growing. */
export const lastFd = 16;
export const lastId = 20;
/** How many pages of the address space are mapped and unmapped. */
const iovaPages = 8;
const firstIova = 0x1000_0000;
const page = 4096;

/** Draws arguments, and makes one call. */
export class Storm {
  readonly vm: Vm;
  readonly stage: StormStage;

  constructor(vm: Vm, stage: StormStage) {
    this.vm = vm;
    this.stage = stage;
  }

  /** An id that there may be, or not. */
  id(): number {
    return 1 + this.vm.random(lastId);
  }
  fd(): number {
    return this.stage.iommufd + 1 + this.vm.random(lastFd - this.stage.iommufd);
  }
  iova(): number {
    return firstIova + this.vm.random(iovaPages) * page;
  }
  lengthBytes(): number {
    return (1 + this.vm.random(3)) * page;
  }
  /** Sometimes it is partly where nothing is mapped. */
  va(): bigint {
    return BigInt(this.stage.va + this.vm.random(this.stage.pages) * page);
  }
  oneIn(count: number): boolean {
    return this.vm.random(count) === 0;
  }
  /** A number of one of the values. */
  oneOf<T>(values: readonly T[]): T {
    return values[this.vm.random(values.length)]!;
  }

  /** From now to the end of the call, the n-th thing that can fail does. */
  refuseOne(): void {
    this.vm.host.kernel.faults = new FaultInjection(1 + this.vm.random(8));
  }

  ioctl<N extends keyof Commands & StormCallName>(fd: number, command: N, arg: Commands[N], at: At): ErrnoName | null {
    this.#call(command, at);
    try {
      ioctl(this.vm.kernel, fd, command, arg);
      return this.#returned(command, null);
    } catch (error) {
      return this.#returned(command, error);
    }
  }

  test<N extends keyof TestCommands & StormCallName>(command: N, arg: TestCommands[N], at: At): ErrnoName | null {
    this.#call(command, at);
    try {
      testIoctl(this.vm.kernel, this.stage.iommufd, command, arg);
      return this.#returned(command, null);
    } catch (error) {
      return this.#returned(command, error);
    }
  }

  /** The descriptor, or -1. */
  open(path: string): number {
    this.#call('open', {});
    try {
      const fd = open(this.vm.kernel, path);
      this.#returned('open', null);
      return fd;
    } catch (error) {
      this.#returned('open', error);
      return -1;
    }
  }
  close(fd: number): void {
    this.#call('close', { other: fd });
    try {
      close(this.vm.kernel, fd);
      this.#returned('close', null);
    } catch (error) {
      this.#returned('close', error);
    }
  }
  read(fd: number, count: number): void {
    this.#call('read', { other: fd });
    try {
      read(this.vm.kernel, fd, count);
      this.#returned('read', null);
    } catch (error) {
      this.#returned('read', error);
    }
  }
  write(fd: number, bytes: Uint8Array): void {
    this.#call('write', { other: fd });
    try {
      write(this.vm.kernel, fd, bytes);
      this.#returned('write', null);
    } catch (error) {
      this.#returned('write', error);
    }
  }

  /** What is beyond the shelf is given back at once. */
  keepFd(fd: number): void {
    if (fd > lastFd) this.close(fd);
  }
  keepId(id: number): void {
    if (id > lastId) this.destroy(id);
  }
  destroy(id: number): void {
    this.ioctl(this.stage.iommufd, 'IOMMU_DESTROY', { id }, { target: id });
  }

  #call(name: StormCallName, { target = 0, other = 0, iova = 0, lengthBytes = 0 }: At): void {
    const { host, kernel } = this.vm;
    StormCalled.emit(host.kernel, stormCallNumber(name), kernel.processNumber, target, other, Math.floor(iova / page), Math.ceil(lengthBytes / page));
  }

  /** What is no errno goes on its way: the schedule is over. */
  #returned(name: StormCallName, thrown: unknown): ErrnoName | null {
    const { host, kernel } = this.vm;
    if (thrown !== null && !(thrown instanceof Errno)) throw thrown;
    const refused = host.kernel.faults !== null && host.kernel.faults.refused !== null;
    host.kernel.faults = null;
    const errno = thrown === null ? null : thrown.name;
    StormReturned.emit(host.kernel, stormCallNumber(name), kernel.processNumber, errnoNumber(errno), refused ? 1 : 0);
    return errno;
  }
}

/** What a call is about. `target` is an id of an object, `other` a second one, or a descriptor. */
interface At {
  readonly target?: number;
  readonly other?: number;
  readonly iova?: number;
  readonly lengthBytes?: number;
}

/** One entry of a table of calls. */
export type StormCall = (storm: Storm) => void;
