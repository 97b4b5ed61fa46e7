/**
 * An invariant: a claim, a fold over the events that it names, and a look at the shared records at named moments.
 *
 * It writes nothing. `step` sees every event of its kinds in stamp order; `inspect` reads records as no point: after
 * an event of `inspectAfter` in a controlled run (one thread runs, memory stands still) and at quiescence in all runs.
 */
import type { Cursor } from '#hostmem/history';
import type { View } from './view.ts';

/** A word of a host that takes part in a contradiction. */
export interface Culprit {
  /** 0 RAM, 1 kernel memory. */
  readonly space: 0 | 1;
  /** Byte address. */
  readonly at: number;
}

/** What was found: a sentence in the domain's words, and the words that disagree, if two do. */
export interface Breach {
  readonly message: string;
  readonly words: readonly Culprit[];
}

export const breach = (message: string, words: readonly Culprit[] = []): Breach => ({ message, words });

/** What is asked for by kind number. */
export interface Kinded {
  readonly kind: number;
}

export interface Invariant<S> {
  /** As INVARIANTS.md names it. */
  readonly id: string;
  readonly claim: string;
  readonly events: readonly Kinded[];
  /** The state before the first event. The records may be further by then: what they said is `view.beginning`. */
  start(view: View): S;
  /** Folds one event; a breach ends the judging. */
  step(state: S, event: Cursor, view: View): Breach | null;
  readonly inspectAfter?: readonly Kinded[];
  /** `atRest`: nobody is inside a call. */
  inspect?(state: S, view: View, atRest: boolean): Breach | null;
}

/** An invariant whose state only it knows. */
export type AnyInvariant = Invariant<unknown>;

export function invariant<S>(definition: Invariant<S>): AnyInvariant {
  return Object.freeze(definition) as AnyInvariant;
}
