/** What an actor had read before it broke the schedule, and others had written in it: the nearest cause that a trace shows. */
import { sameWord } from './disagreement.ts';
import { writes, type FoundWord, type TraceStep } from './failure.ts';

/** Words that are told, and how far back in the actor's own steps they are looked for. */
const most = 2;
const reach = 12;

/** The latest first. */
export function foundWords(steps: readonly TraceStep[], breaker: string): FoundWord[] {
  const found: FoundWord[] = [];
  const own = steps.filter(({ actor }) => actor === breaker).slice(-reach);
  for (const read of own.toReversed()) {
    if ((read.op !== 'LOAD' && read.op !== 'READ') || found.some(({ label }) => label === read.label) || found.length === most) continue;
    const write = steps.findLast((step) => step.step < read.step && sameWord(step, read) && writes(step.op));
    if (write === undefined || write.actor === breaker) continue;
    const { label, value, means } = read;
    found.push({ label, value, ...(means !== undefined && { means }), write: { actor: write.actor, step: write.step }, read: { actor: breaker, step: read.step } });
  }
  return found;
}
