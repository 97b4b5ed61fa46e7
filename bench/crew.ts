/** What the threads of the bench `explore` are told, and the words they share. */
import type { HostBuffers } from '#hostmem/host';
import { mutex } from '#hostmem/locks';
import { object, u32 } from '#hostmem/struct';
import type { CheckpointBuffers } from '#src/schedule/checkpoint';

export const Cells = object('BenchCrewCells', { lock: mutex, first: u32, second: u32, third: u32 });

/** Words of the ring's buffer: hand-offs left, whether the ring is done, then a word for each member on lines of its own. */
export const Ring = { LEFT: 0, DONE: 1, TURN: 32, STRIDE: 32 } as const;

export interface Duty {
  readonly member: number;
  readonly names: readonly string[];
  /** Null for a member of the ring. */
  readonly actor: { readonly board: SharedArrayBuffer; readonly host: HostBuffers; readonly cells: number; readonly checkpoint: CheckpointBuffers } | null;
  readonly ring: SharedArrayBuffer | null;
}
