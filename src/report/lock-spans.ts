/**
 * Who held which lock from which step to which, read off the lock and unlock steps of a trace.
 */
import type { TraceStep } from './failure.ts';

export interface LockSpan {
  readonly label: string;
  readonly space: number;
  readonly at: number;
  readonly actor: string;
  readonly shared: boolean;
  readonly from: number;
  /** The step that let go of it; null while it is held at the end. */
  to: number | null;
}

/** Every span, in the order in which they began. */
export function lockSpans(steps: readonly TraceStep[]): LockSpan[] {
  const spans: LockSpan[] = [];
  for (const { op, actor, space, at, label, step } of steps) {
    if (op === 'LOCK' || op === 'RLOCK') spans.push({ label, space, at, actor, shared: op === 'RLOCK', from: step, to: null });
    if (op !== 'UNLOCK' && op !== 'RUNLOCK') continue;
    const open = spans.findLast((span) => span.to === null && span.actor === actor && span.space === space && span.at === at);
    if (open !== undefined) open.to = step;
  }
  return spans;
}

/** Whether the span reaches over both steps. What is done in the step that lets go comes behind that. */
export const covers = (span: LockSpan, first: number, last: number): boolean =>
  span.from <= first && (span.to === null || span.to > last);

/** The spans of locks that more than one actor took: no other lock can keep two actors apart. Of one actor, all. */
export function contended(spans: readonly LockSpan[], actors: readonly string[]): LockSpan[] {
  const taken = spans.filter((span) => actors.includes(span.actor));
  if (actors.length < 2) return taken;
  const sameLock = (a: LockSpan, b: LockSpan): boolean => a.space === b.space && a.at === b.at;
  return taken.filter((span) => taken.some((other) => sameLock(span, other) && other.actor !== span.actor));
}
