/** A step of a random program: one call of a table, with random arguments, told before and after to whoever judges its errno. */
import { FaultInjection } from '#hostmem/fault-injection';
import type { Ref } from '#hostmem/object';
import { runGet, runSet } from '#hostmem/run';
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
  /** A run of `shelfWords` words in kernel memory that stands for the program's own variables. */
  readonly shelf: number;
}

/** What a program keeps in its variables: ids of objects and descriptors, a few of each kind. */
export const Shelf = { IOAS: 0, DEVICE: 1, HWPT: 2, VIOMMU: 3, FAULT_QUEUE: 4, MOCK_DEVICE: 5, VFIO_FD: 6, ACCESS_FD: 7, QUEUE_FD: 8 } as const;
export type Shelf = (typeof Shelf)[keyof typeof Shelf];
const slots = 4;
export const shelfWords = 9 * slots;

/** Descriptors above this one are closed by who opens them, and objects above that id destroyed: else a free run would never stop growing. */
export const lastFd = 20;
export const lastId = 32;
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

  /** Mostly the id of what was that once, else any. */
  id(what: Shelf): number {
    const known = this.#recall(what);
    return known === 0 ? 1 + this.vm.random(lastId) : known;
  }
  fd(what: Shelf): number {
    const known = this.#recall(what);
    return known === 0 ? this.stage.iommufd + 1 + this.vm.random(lastFd - this.stage.iommufd) : known;
  }

  /** Threads of a program overwrite each other's notes. */
  note(what: Shelf, value: number): void {
    runSet(this.vm.host.kernel, this.stage.shelf as Ref<'Run'>, what * slots + this.vm.random(slots), value);
  }
  #recall(what: Shelf): number {
    const slot = this.vm.random(slots + 1);
    return slot === slots ? 0 : runGet(this.vm.host.kernel, this.stage.shelf as Ref<'Run'>, what * slots + slot);
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
  keepFd(what: Shelf, fd: number): void {
    if (fd > lastFd) this.close(fd);
    else this.note(what, fd);
  }
  keepId(what: Shelf | null, id: number): void {
    if (id > lastId) this.destroy(id);
    else if (what !== null) this.note(what, id);
  }
  /** A queue, whose descriptor holds it. */
  keepQueue(what: Shelf | null, id: number, fd: number): void {
    if (id > lastId) this.close(fd);
    else this.keepFd(Shelf.QUEUE_FD, fd);
    this.keepId(what, id);
  }
  destroy(id: number): void {
    this.ioctl(this.stage.iommufd, 'IOMMU_DESTROY', { id }, { target: id });
  }

  #call(name: StormCallName, { target = 0, other = 0, iova = 0, lengthBytes = 0 }: At): void {
    const { host, kernel } = this.vm;
    StormCalled.emit(host.kernel, stormCallNumber(name), kernel.processNumber, target, other, Math.floor(iova / page), Math.ceil(((iova % page) + lengthBytes) / page));
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
