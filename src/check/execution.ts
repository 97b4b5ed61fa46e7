/**
 * What is wrong with an execution whatever the scenario is about: locks taken in two orders, and words that two touch at once. Both are
 * read off its trace, and found also where nothing came of it.
 */
import { isMarkedLabel } from '#hostmem/labels';
import { breach } from './invariant.ts';
import { dataRaces, describeRace } from './data-race.ts';
import type { Verdict } from './judge.ts';
import { describeCycle, LockOrder } from './lock-order.ts';
import type { TracedStep } from './traced-step.ts';

/** The ids that these checkers give. */
export const executionIds: readonly string[] = ['L1', 'RACE'];

/** The first thing found in the trace of a whole execution, or null. */
export function judgeExecution(trace: readonly TracedStep[], names: readonly string[]): Verdict | null {
  const order = new LockOrder();
  order.fold(trace);
  const cycle = order.cycle();
  if (cycle !== null) return { invariant: 'L1', ...breach(describeCycle(cycle, names)) };
  const [race] = dataRaces(trace, isPlainOnPurpose);
  if (race === undefined) return null;
  const { space, at } = race.second;
  return { invariant: 'RACE', ...breach(describeRace(race, names), [{ space, at }]) };
}

/** RAM is read by hardware while software writes it, and a cache by its unit: plain accesses are how such words are used. */
const isPlainOnPurpose = ({ space, label }: TracedStep): boolean => space === 0 || isMarkedLabel(label);
