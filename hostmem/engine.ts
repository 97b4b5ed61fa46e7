/**
 * Passive parts: hardware that acts by itself (a queue engine, a page-request thread) without a thread of its own.
 *
 * All its state is in shared memory. In a controlled run the scheduler treats it as one more actor: whoever holds the
 * baton runs the step that the strategy picked. In a free run whoever waits for it helps.
 */
import type { Memory } from './memory.ts';

export interface Engine {
  /** As it appears in schedules: `vtd0.queue`. */
  readonly name: string;
  /** Whether a step is possible: a pure function of shared memory, no point. */
  ready(): boolean;
  /** Where the next step works, for dependence between steps and for labels. */
  readonly memory: Memory;
  at(): number;
  label(): number;
  /** One step, indivisible in a controlled run. Never waits. */
  step(): void;
}
