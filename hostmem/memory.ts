/**
 * One shared buffer seen from one thread, and the address types.
 *
 * Each thread has `Memory` objects of its own over the same buffers; `control`, `history` and `high` are the thread's.
 */
import type { Control } from './atomics.ts';
import type { FaultInjection } from './fault-injection.ts';
import type { History } from './history.ts';

declare const kind: unique symbol;

/** Host physical address, in bytes, within the RAM of one host (of 4 GiB at most). */
export type Hpa = number & { readonly [kind]: 'hpa' };
/** Number of a host frame of 4 KiB: `hpa / 4096`. 0 is never handed out. */
export type Frame = number & { readonly [kind]: 'frame' };

export const pageBytes = 4096;
export const pageShift = 12;

export const hpaOf = (frame: Frame): Hpa => (frame * pageBytes) as Hpa;
export const frameOf = (hpa: number): Frame => (hpa >>> pageShift) as Frame;

/** Which buffer of a host an address is in; part of every announced operation. */
export const Space = { RAM: 0, KERNEL: 1 } as const;
export type Space = (typeof Space)[keyof typeof Space];

export class Memory {
  readonly words: Int32Array<SharedArrayBuffer>;
  /** The same, for moves of many bytes. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly space: Space;
  readonly sizeBytes: number;
  /** Null in a free run. */
  control: Control | null = null;
  /** Where events go; null where nobody judges (benches, the building of a world). */
  history: History | null = null;
  /** Who decides which allocations, pins and copies fail; null where none does. */
  faults: FaultInjection | null = null;
  /** Free blocks of the heap that this thread keeps for itself, by size. Free runs only. */
  readonly ownBlocks: number[][] = [];
  /** The high word of the last `read64`. */
  high = 0;

  constructor(buffer: SharedArrayBuffer, space: Space) {
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.space = space;
    this.sizeBytes = buffer.byteLength;
  }

  get buffer(): SharedArrayBuffer {
    return this.words.buffer;
  }
}

/** TypeScript's libraries without DOM do not declare WebAssembly. */
declare const WebAssembly: {
  Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => { readonly buffer: SharedArrayBuffer };
};

/**
 * A SharedArrayBuffer of at least `sizeBytes`, a multiple of 64 KiB. It is the buffer of a shared WebAssembly memory, so
 * that a compiled kernel (fill, copy, map of a range) can work on it in place later.
 */
export function allocateBuffer(sizeBytes: number): SharedArrayBuffer {
  const pages = Math.max(1, Math.ceil(sizeBytes / 65_536));
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }).buffer;
}
