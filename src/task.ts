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
