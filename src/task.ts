/** What a worker is handed: everything it needs to join a host, as data and shared buffers. */
import type { HostBuffers } from '#hostmem/host';
import type { CheckpointBuffers } from './schedule/checkpoint.ts';
import type { Parameters, Role, Stage } from './scenario.ts';

export interface HistoryBuffer {
  readonly buffer: SharedArrayBuffer;
  readonly rings: number;
  /** Events a ring. */
  readonly capacity: number;
}

/**
 * A controlled run: the board decides. `kept` receives a copy of the running schedule's events, with their steps; `hwpts`
 * what references to HWPTs meant at its end.
 */
export interface Controlled {
  readonly board: SharedArrayBuffer;
  readonly checkpoint: CheckpointBuffers;
  readonly kept: SharedArrayBuffer;
  readonly hwpts: SharedArrayBuffer;
}

export interface Task {
  readonly actor: number;
  readonly names: readonly string[];
  /** Of each actor's program; 1 for a body that is none. */
  readonly steps: readonly number[];
  readonly scenarioUrl: string;
  /** Null for the correct kernel. */
  readonly variantUrl: string | null;
  /** Ids of invariants, or URLs of those from outside. */
  readonly holds: readonly string[];
  readonly host: HostBuffers;
  readonly directory: Readonly<Record<string, number>>;
  readonly stage: Stage;
  readonly parameters: Parameters;
  readonly seed: number;
  readonly counters: SharedArrayBuffer;
  readonly history: HistoryBuffer;
  readonly controlled: Controlled | null;
  /** A free run: the shared buffer of its `Pace`. */
  readonly pace: SharedArrayBuffer | null;
}

/** What a worker reports when its actor's life is over. */
export interface ActorReport {
  readonly actor: string;
  readonly role: Role;
  readonly threadId: number;
  readonly violation: { readonly invariant: string; readonly message: string } | null;
}

/** One thread of a race that a recording asks for; all threads of the race begin together. */
export interface RaceTask {
  readonly host: HostBuffers;
  /** The calling process (`Ref<'Process'>`). */
  readonly process: number;
  /** Shared by the threads of the race: who has arrived, whether to stop, replaces done. */
  readonly gate: SharedArrayBuffer;
  readonly threads: number;
  readonly work: RandomReplaces | EndlessReplaces | RacingDma;
}

/** `rounds` calls on a VFIO descriptor: attaches to random page tables, and with `detaches` a detach every fourth time. */
export interface RandomReplaces {
  readonly kind: 'random replaces';
  readonly fd: number;
  readonly ptIds: readonly number[];
  readonly rounds: number;
  readonly detaches: boolean;
  readonly seed: number;
}

/** Replaces from one page table to the next and back, until the DMA of the same race has ended. */
export interface EndlessReplaces {
  readonly kind: 'endless replaces';
  readonly fd: number;
  readonly ptIds: readonly number[];
}

/** Pairs of a read and a write, with a replace at least between one pair and the next. */
export interface RacingDma {
  readonly kind: 'dma';
  readonly function: number;
  readonly pairs: number;
  readonly lengthBytes: number;
  readonly readIova: bigint;
  readonly writeIova: bigint;
  /** Whose pages may be met: what a read begins with, and where a write lands in RAM. */
  readonly pages: readonly { readonly name: string; readonly tag: readonly number[]; readonly dst: number }[];
}

/** How calls ended, by errno (`ok` for success): of attaches, of detaches; or where DMA ended: by name, `fault` or `other`. */
export interface RaceReport {
  readonly attaches: Readonly<Record<string, number>>;
  readonly detaches: Readonly<Record<string, number>>;
  readonly reads: Readonly<Record<string, number>>;
  readonly writes: Readonly<Record<string, number>>;
}
