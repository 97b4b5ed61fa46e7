/**
 * A host at rest, and the way back to it after every schedule.
 */
import { DirtyPages, firstDifference, takeSnapshot } from '#hostmem/snapshot';
import { Space, type Memory } from '#hostmem/memory';
import type { WordAddress } from './violation.ts';

interface Sides<T> {
  readonly ram: T;
  readonly kernel: T;
}

/** What a thread needs to join a checkpoint: of each memory a copy and the list of changed pages. */
export interface CheckpointBuffers {
  readonly snapshots: Sides<SharedArrayBuffer>;
  readonly dirty: Sides<SharedArrayBuffer>;
}

export class Checkpoint {
  readonly #memories: readonly Memory[];
  readonly #snapshots: readonly Int32Array[];
  readonly #dirty: readonly DirtyPages[];

  /** Joins a checkpoint that `Checkpoint.take` made of the same host. */
  constructor(host: Sides<Memory>, { snapshots, dirty }: CheckpointBuffers) {
    this.#memories = [host.ram, host.kernel];
    this.#snapshots = [new Int32Array(snapshots.ram), new Int32Array(snapshots.kernel)];
    this.#dirty = [new DirtyPages(dirty.ram), new DirtyPages(dirty.kernel)];
  }

  /** Copies both memories; nobody may be writing. */
  static take({ ram, kernel }: Sides<Memory>): CheckpointBuffers {
    return {
      snapshots: { ram: takeSnapshot(ram), kernel: takeSnapshot(kernel) },
      dirty: {
        ram: new SharedArrayBuffer(DirtyPages.bytes(ram.sizeBytes)),
        kernel: new SharedArrayBuffer(DirtyPages.bytes(kernel.sizeBytes)),
      },
    };
  }

  mark(space: Space, at: number): void {
    this.#dirty[space]!.mark(at);
  }

  /** Of everything that has changed since the snapshot, as it is now. */
  hash(): number {
    return this.#dirty.reduce((hash, pages, space) => pages.hash(this.#memories[space]!, hash), 0);
  }

  restore(): void {
    for (let space = 0; space < this.#memories.length; space++) {
      this.#dirty[space]!.restore(this.#memories[space]!, this.#snapshots[space]!);
    }
  }

  /** The first word that is not as in the snapshot, or null: compares all of both memories. */
  firstDifference(): WordAddress | null {
    for (const space of [Space.RAM, Space.KERNEL]) {
      const at = firstDifference(this.#memories[space]!, this.#snapshots[space]!);
      if (at >= 0) return { space, at };
    }
    return null;
  }
}
