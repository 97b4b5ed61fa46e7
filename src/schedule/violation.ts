/**
 * What a controlled run can find wrong, and how it leaves an actor's body afterwards.
 *
 * Ids given by the scheduler itself: DEADLOCK, LIVELOCK, BUDGET, THROWN, NONDETERMINISM, O2 (a dangling reference was followed),
 * L2 (a guarded word was touched without its lock) and L4 (a word was changed without waking who waits for it). All others are the callers'.
 */
import type { Space } from '#hostmem/memory';
import { UseAfterFree } from '#hostmem/object';

/** A word of a host, in bytes from the start of its memory. */
export interface WordAddress {
  readonly space: Space;
  readonly at: number;
}

/** A broken invariant. A plain value: it is thrown by actors, returned by judges and stored on the board. */
export class Violation {
  /** The id alone: `G2`. */
  readonly invariant: string;
  readonly message: string;
  /** The words that disagree, where the judge knows them. */
  readonly words: readonly WordAddress[];

  constructor(invariant: string, message: string, words: readonly WordAddress[] = []) {
    this.invariant = invariant;
    this.message = message;
    this.words = words;
  }
}

/** Leaves an actor's body after the schedule has failed. Whoever catches everything must let it pass. */
export class Abandon {}

/** What an exception out of an actor's body, an engine's step or a judge means. */
export function violationOf(thrown: unknown): Violation {
  if (thrown instanceof Violation) return thrown;
  if (thrown instanceof UseAfterFree) return new Violation('O2', thrown.message);
  return new Violation('THROWN', describe(thrown));
}

/** An errno that nobody handled is a value with a name and a reason, not an `Error`. */
function describe(thrown: unknown): string {
  if (thrown instanceof Error) return `${thrown.name}: ${thrown.message}`;
  if (typeof thrown !== 'object' || thrown === null) return String(thrown);
  const { name, reason } = thrown as { name?: unknown; reason?: unknown };
  return typeof name === 'string' && typeof reason === 'string' ? `${name}: ${reason}` : JSON.stringify(thrown);
}
