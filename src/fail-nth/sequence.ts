/** A call whose allocations, pins and copies are made to fail, one after the other, and what has to be there before it. */
import type { ErrnoName } from '../kernel/errno.ts';
import type { Caller, Iommu } from './caller.ts';

export interface Sequence {
  /** What is called, on what; no two sequences share a name. */
  readonly name: string;
  readonly iommu: Iommu;
  /** Prepares, and returns the call. It may be made again after it failed. */
  begin(caller: Caller): () => ErrnoName | null;
  /**
   * Answers when all is done, and does not take it back when that fails: the caller gets EFAULT for a call that took effect, as
   * IOAS_MAP, COPY and UNMAP do in 7.2.
   */
  readonly answersLast?: boolean;
  /** Takes several steps, of which 7.2 undoes none: a mapping that type 1 has cut in two stays cut, and translates as before. */
  readonly stopsHalfway?: boolean;
  /** Goes on without what it cannot have, and says so to somebody else: an event that is lost, a page request that is refused. */
  readonly goesOn?: boolean;
}

/** The sequences of a topic. */
export const topic = (iommu: Iommu, sequences: Readonly<Record<string, Sequence['begin'] | Omit<Sequence, 'name' | 'iommu'>>>): Sequence[] =>
  Object.entries(sequences).map(([name, one]) => ({ name, iommu, ...(typeof one === 'function' ? { begin: one } : one) }));
