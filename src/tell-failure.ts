/** Makes the material of a story from one traced replay: names instead of numbers, events as lines, who wrote what last. */
import type { Host } from '#hostmem/host';
import { nameOfWord } from '#hostmem/struct';
import { EventDescriber } from './describe-events.ts';
import { keptEvents } from './kept-events.ts';
import type { ConflictingWord, Failure, ForcedSwitch, TraceStep } from './report/failure.ts';
import { startOfSchedule, type Switch } from './schedule/board.ts';
import type { ReplayOutcome } from './schedule/commander.ts';
import type { TraceEntry } from './schedule/trace.ts';
import type { WordAddress } from './schedule/violation.ts';
import { functionNames, vfioNames } from './world-names.ts';

export interface Material {
  readonly scenario: string;
  readonly variant: string;
  readonly violation: Failure['violation'];
  /** Actors, then engines. */
  readonly names: readonly string[];
  readonly directory: Readonly<Record<string, number>>;
  readonly host: Host;
  readonly outcome: ReplayOutcome;
  readonly kept: SharedArrayBuffer;
  readonly token: string;
}

export function tellFailure({ scenario, variant, violation, names, directory, host, outcome, kept, token }: Material): Failure {
  const steps = outcome.trace.map((entry) => stepOf(entry, names));
  const describer = new EventDescriber(vfioNames(host, directory), functionNames(host, directory));
  const events = keptEvents(kept).flatMap(({ step, cursor }) => {
    const text = describer.describe(cursor);
    return text === null ? [] : [{ step, actor: names[cursor.actor] ?? '', text }];
  });
  return {
    scenario,
    variant,
    violation,
    actors: names,
    steps,
    events,
    switches: (outcome.switches ?? []).map((one) => switchOf(one, names)),
    conflicts: outcome.violation!.words.map((word) => conflictOf(host, word, steps)),
    token,
  };
}

function stepOf({ step, actor, op, space, at, label, value, choice, guarded }: TraceEntry, names: readonly string[]): TraceStep {
  return { step, actor: names[actor] ?? '', op: guarded ? 'WROTE' : op, space, at, label, value: value ?? 0, choice };
}

function switchOf({ actor, count, next }: Switch, names: readonly string[]): ForcedSwitch {
  return { actor: actor === startOfSchedule ? null : names[actor]!, op: count, next: names[next]! };
}

function conflictOf(host: Host, { space, at }: WordAddress, steps: readonly TraceStep[]): ConflictingWord {
  const last = steps.findLast((step) => step.space === space && step.at === at && isWrite(step));
  const label = last?.label ?? (space === 1 ? nameOfWord(host.kernel, at) : null) ?? `word 0x${at.toString(16)}`;
  return { label, space, at, lastWrite: last === undefined ? null : { actor: last.actor, step: last.step, value: last.value } };
}

const isWrite = ({ op }: TraceStep): boolean => op === 'STORE' || op === 'RMW' || op === 'WRITE' || op === 'WROTE';
