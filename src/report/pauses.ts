/**
 * Where an actor of a trace was held while another went on: the forced switches, found again in the steps.
 */
import type { Failure, ForcedSwitch, TraceStep } from './failure.ts';

export interface Pause {
  /** Null for the choice of who starts. */
  readonly actor: string | null;
  readonly next: string;
  /** The last step before the switch; 0 at the start. */
  readonly afterStep: number;
  /** The step with which the actor goes on; null when it does not. */
  readonly resumesAt: number | null;
  /** Whether `next` had nothing left to do by then. */
  readonly nextReturned: boolean;
}

/** In the order of the steps. A switch that the trace does not show is left out. */
export function pauses(failure: Failure): Pause[] {
  const found: Pause[] = [];
  for (const one of failure.switches) {
    const index = one.actor === null ? -1 : indexOfSwitch(failure.steps, one, one.actor);
    if (index !== null) found.push(pauseAt(failure.steps, one, index));
  }
  return found.sort((a, b) => a.afterStep - b.afterStep);
}

/** The hand-over from the actor to `next` whose count of the actor's operations is nearest to the switch's. */
function indexOfSwitch(steps: readonly TraceStep[], one: ForcedSwitch, actor: string): number | null {
  let best: number | null = null;
  let nearest = Infinity;
  let ops = 0;
  for (const [index, step] of steps.entries()) {
    if (step.actor === actor && step.op !== 'WROTE') ops++;
    if (step.actor !== actor || steps[index + 1]?.actor !== one.next || Math.abs(ops - one.op) >= nearest) continue;
    nearest = Math.abs(ops - one.op);
    best = index;
  }
  return best;
}

function pauseAt(steps: readonly TraceStep[], { actor, next }: ForcedSwitch, index: number): Pause {
  const resumed = actor === null ? -1 : steps.findIndex((step, at) => at > index && step.actor === actor);
  const nextGoesOn = resumed >= 0 && steps.some((step, at) => at > resumed && step.actor === next);
  return {
    actor,
    next,
    afterStep: steps[index]?.step ?? 0,
    resumesAt: steps[resumed]?.step ?? null,
    nextReturned: !nextGoesOn,
  };
}

/** The pause as a sentence about the actor. */
export function describePause({ actor, next, resumesAt, nextReturned }: Pause): string {
  if (actor === null) return `${next} goes first`;
  if (resumesAt === null) return `${next} goes on; ${actor} does not`;
  return `${actor} is paused here until ${nextReturned ? `${next} has returned` : `step ${resumesAt}`}`;
}
