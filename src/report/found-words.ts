/** What an actor had read before it broke the schedule, and others had written in it: the nearest cause that a trace shows. */
import { sameWord } from './disagreement.ts';
import { writes, type FoundWord, type TraceStep } from './failure.ts';

/** Words that are told, and how far back in the actor's own steps they are looked for. */
const most = 2;
const reach = 12;

/** A word of an object that was given back in the schedule, and by whom. */
export interface FreedWord {
  readonly space: number;
  readonly at: number;
  readonly actor: string;
  readonly step: number;
}

/** The object that an actor used last of those that another one gave back behind its use; nothing where there is none. */
export function foundFreed(steps: readonly TraceStep[], breaker: string, freed: readonly FreedWord[]): FoundWord[] {
  for (const use of steps.filter(({ actor }) => actor === breaker).toReversed()) {
    const gone = freed.findLast((word) => word.step > use.step && word.actor !== breaker && sameWord(word, use));
    if (gone === undefined) continue;
    const { actor, step } = gone;
    return [{ label: use.label, value: use.value, freed: true, write: { actor, step }, read: { actor: breaker, step: use.step } }];
  }
  return [];
}

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
