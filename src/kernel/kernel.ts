/**
 * The kernel as one thread sees it: the shared state of the host, the functions in force, and who is calling.
 *
 * Nobody owns the kernel: a system call runs on the calling worker's thread, under locks in shared memory.
 */
import type { Host } from '#hostmem/host';
import type { Memory } from '#hostmem/memory';
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, words } from '#hostmem/struct';
import type { IommuDriver } from '../drivers/driver.ts';
import { LinkTsm } from '../drivers/tsm/link-tsm.ts';
import { putFile } from './file.ts';
import { putObject, type ObjectRef } from './objects.ts';
import type { Operations } from './operations.ts';
import { Process } from './process.ts';

const pasidWords = 2;

/** What exists once per host. The lists are fixed when the world is built. */
export const KernelRoot = object('KernelRoot', {
  processes: ref('Process'),
  /** The user of all processes that were given no other. */
  rootUser: ref('User'),
  groups: ref('IommuGroup'),
  vfioDevices: ref('VfioDevice'),
  vfioGroups: ref('VfioGroup'),
  /** Interrupts of devices are not remapped: whoever can do DMA can forge them. */
  unsafeInterrupts: u32,
  /** On a host with a security manager for devices: its core, and the confidential VMs. */
  tsm: ref('TsmCore'),
  tvms: ref('Tvm'),
  processCount: u32,
  /** The numbers of processes, see `process-pasid.ts` (`iommu_sva_lock`, `iommu_global_pasid_ida`). */
  pasidLock: mutex,
  pasids: words(pasidWords),
  /** Held by who hands page requests from a unit's queue on (the thread of its interrupt, or who drains it). */
  pageRequestLock: mutex,
  /** Of that design: the lock of all sets, and what it has put off. */
  ioasidLock: mutex,
  ioasidWork: ref('IoasidBond'),
});

/** Bits of `KernelRoot.pasids`: as many processes can have a PASID at a time. */
export const pasidCount = pasidWords * 32;

export class Kernel {
  readonly host: Host;
  readonly memory: Memory;
  readonly operations: Operations;
  readonly driver: IommuDriver;
  /** Null on a host without. */
  readonly tsm: LinkTsm | null;
  /** The calling process. */
  process: Ref<'Process'> = NULL;
  processNumber = 0;
  /** Objects got during the running call; the dispatcher puts them on every way out. */
  readonly #held: ObjectRef[] = [];
  /** Files whose release runs on the way back to user mode (`task_work_add`). */
  readonly #deferred: Ref<'File'>[] = [];

  constructor(host: Host, operations: Operations, driver: IommuDriver) {
    this.host = host;
    this.memory = host.kernel;
    this.operations = operations;
    this.driver = driver;
    this.tsm = LinkTsm.of(host);
  }

  /** Becomes a process: what follows is its system calls. */
  enter(process: Ref<'Process'>): void {
    this.process = process;
    this.processNumber = Process.number.peek(this.memory, process);
  }

  get root(): Ref<'KernelRoot'> {
    return this.host.kernelRoot as Ref<'KernelRoot'>;
  }

  get firstVfioDevice(): Ref<'VfioDevice'> {
    return KernelRoot.vfioDevices.peek(this.memory, this.root);
  }

  /** Leaves an object to the dispatcher. */
  hold(target: ObjectRef): ObjectRef {
    this.#held.push(target);
    return target;
  }

  /** Leaves the caller's reference to a file to the end of the system call, as `fput` does; nothing in 7.2's iommufd may. */
  putLater(file: Ref<'File'>): void {
    this.#deferred.push(file);
  }

  /** On the way back to user mode: puts what the call holds, the last got first, and the files that were left for later. */
  putHeld(): void {
    for (let target = this.#held.pop(); target !== undefined; target = this.#held.pop()) putObject(this, target);
    for (let file = this.#deferred.pop(); file !== undefined; file = this.#deferred.pop()) putFile(this, file);
  }
}
