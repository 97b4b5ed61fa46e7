/**
 * One host as one thread sees it: RAM, kernel memory, and where the rooms keep their roots.
 *
 * RAM is host physical memory and nothing else; kernel memory holds objects, locks, registers and the frame table.
 */
import { peek, poke } from './atomics.ts';
import { Frames } from './frames.ts';
import { allocateBuffer, Memory, Space } from './memory.ts';
import { heapStart, initialiseHeap } from './object.ts';

/** The directory: one word each in kernel memory, below the heap. */
const directory = { frames: 16, machine: 20, kernel: 24, driver: 28 } as const;

/** The buffers of a host: what a thread needs to join it. */
export interface HostBuffers {
  readonly ram: SharedArrayBuffer;
  readonly kernel: SharedArrayBuffer;
}

export class Host {
  readonly ram: Memory;
  readonly kernel: Memory;
  readonly frames: Frames;

  /** Joins a host that `Host.create` made. */
  constructor(buffers: HostBuffers) {
    this.ram = new Memory(buffers.ram, Space.RAM);
    this.kernel = new Memory(buffers.kernel, Space.KERNEL);
    this.frames = new Frames(this.kernel, this.ram, peek(this.kernel, directory.frames));
  }

  /** A new, empty host. Both sizes in bytes; RAM up to 4 GiB, kernel memory at most 64 MiB (what a `Ref` reaches). */
  static create(ramBytes: number, kernelBytes: number): Host {
    if (!(ramBytes >= 65_536 && ramBytes <= 2 ** 32)) throw new Error(`RAM of ${ramBytes} bytes: give 64 KiB to 4 GiB`);
    if (!(kernelBytes >= 65_536 && kernelBytes <= 64 << 20)) throw new Error(`kernel memory of ${kernelBytes} bytes: give 64 KiB to 64 MiB`);
    const buffers = { ram: allocateBuffer(ramBytes), kernel: allocateBuffer(kernelBytes) };
    const kernel = new Memory(buffers.kernel, Space.KERNEL);
    const ram = new Memory(buffers.ram, Space.RAM);
    const end = Frames.initialise(kernel, ram, heapStart);
    poke(kernel, directory.frames, heapStart);
    initialiseHeap(kernel, end);
    return new Host(buffers);
  }

  get buffers(): HostBuffers {
    return { ram: this.ram.buffer, kernel: this.kernel.buffer };
  }

  /** Reference of the hardware's root record (`src/hardware/machine.ts`). */
  get machine(): number {
    return peek(this.kernel, directory.machine);
  }
  set machine(ref: number) {
    poke(this.kernel, directory.machine, ref);
  }

  /** Reference of the root record of the driver that drives no hardware (`src/drivers/mock`); 0 where the units' own driver is in force. */
  get driver(): number {
    return peek(this.kernel, directory.driver);
  }
  set driver(ref: number) {
    poke(this.kernel, directory.driver, ref);
  }

  /** Reference of the kernel's root record (`src/kernel/kernel.ts`). */
  get kernelRoot(): number {
    return peek(this.kernel, directory.kernel);
  }
  set kernelRoot(ref: number) {
    poke(this.kernel, directory.kernel, ref);
  }
}
