/** For oracles: a walk ended in a table that is one no more. */
import { Owner, type Frames } from '#hostmem/frames';
import { frameOf, type Memory } from '#hostmem/memory';
import type { WalkResult } from '#hostmem/page-walk';
import { deadTableRead } from './events.ts';

/** Levels that page tables have at most; a result above them has read no entry. */
const mostLevels = 6;

/** Reports the last table of a walk, if its frame holds something else by now. */
export function tellDeadTable(kernel: Memory, frames: Frames, sourceId: number, { level, entryAt }: WalkResult): void {
  const table = frameOf(entryAt);
  if (table === 0 || table >= frames.count || level > mostLevels) return;
  const owner = frames.ownerOf(table);
  if (owner !== Owner.TABLE) deadTableRead.emit(kernel, sourceId, table, owner);
}
