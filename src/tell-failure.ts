/** Makes the material of a story from one traced replay: names instead of numbers, events as lines, who wrote what last. */
import { peek } from '#hostmem/atomics';
// For the texts of its labels, which stories tell.
import '#hostmem/fault-injection';
import type { Host } from '#hostmem/host';
import { freedText, label } from '#hostmem/labels';
import { nameOfWord } from '#hostmem/struct';
import { EventDescriber } from './describe-events.ts';
import { keptEvents } from './kept-events.ts';
import { readHwpts } from './check/named-hwpts.ts';
import { foundFreed, foundWords } from './report/found-words.ts';
import type { ConflictingWord, Failure, ForcedSwitch, FoundWord, TraceStep } from './report/failure.ts';
import { firstAlternative, startOfSchedule, type Switch } from './schedule/board.ts';
import type { ReplayOutcome } from './schedule/commander.ts';
import type { TraceEntry } from './schedule/trace.ts';
import type { WordAddress } from './schedule/violation.ts';
import { functionNames, objectNames, processNames, vfioNames } from './world-names.ts';

export interface Material {
  readonly scenario: string;
  readonly variant: string;
  readonly violation: Failure['violation'];
  /** Actors, then engines. */
  readonly names: readonly string[];
  readonly directory: Readonly<Record<string, number>>;
  readonly host: Host;
  readonly outcome: ReplayOutcome;
  readonly kept: Kept;
  readonly token: string;
  readonly replayFlags: string;
}

/** What was written down of the schedule before memory was restored. */
export interface Kept {
  readonly events: SharedArrayBuffer;
  readonly hwpts: SharedArrayBuffer;
}

export function tellFailure({ scenario, variant, violation, names, directory, host, outcome, kept, token, replayFlags }: Material): Failure {
  const hwpts = readHwpts(kept.hwpts);
  // That a block was given back is a write of all its words to strategies, and nobody's step.
  const steps = outcome.trace.filter(({ labelNumber }) => labelNumber !== freedLabel).map((entry) => stepOf(entry, names, hwpts));
  const describer = new EventDescriber({ devices: vfioNames(host, directory), functions: functionNames(host, directory), objects: objectNames(host), processes: processNames(host, directory) });
  const events = keptEvents(kept.events).flatMap(({ step, cursor }) => {
    const text = describer.describe(cursor);
    const reached = describer.reached(cursor);
    return text === null ? [] : [{ step, actor: names[cursor.actor] ?? '', text, ...(reached !== null && { reached }), ...(describer.isDetail(cursor) && { detail: true as const }) }];
  });
  return {
    scenario,
    variant,
    violation,
    actors: names,
    steps,
    events,
    switches: (outcome.switches ?? []).filter(({ next }) => next < firstAlternative).map((one) => switchOf(one, names)),
    found: outcome.violation!.words.length > 0 || outcome.actor === null || !byItself.has(violation.invariant) ? [] : foundBy(names[outcome.actor]!, steps, outcome.trace, names),
    conflicts: outcome.violation!.words.map((word) => conflictOf(host, word, steps, hwpts)),
    token,
    replayFlags,
  };
}

/** What was given back says most; else what was read. */
function foundBy(breaker: string, steps: readonly TraceStep[], trace: readonly TraceEntry[], names: readonly string[]): FoundWord[] {
  const freed = trace.filter(({ labelNumber }) => labelNumber === freedLabel).map(({ space, at, actor, step }) => ({ space, at, actor: names[actor] ?? '', step }));
  const gone = foundFreed(steps, breaker, freed);
  return gone.length > 0 ? gone : foundWords(steps, breaker);
}

function stepOf(entry: TraceEntry, names: readonly string[], hwpts: ReadonlyMap<number, string>): TraceStep {
  const { step, actor, op, space, at, label: text, value, choice, guarded } = entry;
  const means = value !== null && refersToHwpt.test(text) ? hwpts.get(value) : undefined;
  return { step, actor: names[actor] ?? '', op: guarded ? 'WROTE' : op, space, at, label: text, value: value ?? 0, choice, ...(means && { means }) };
}

function switchOf({ actor, count, next }: Switch, names: readonly string[]): ForcedSwitch {
  return { actor: actor === startOfSchedule ? null : names[actor]!, op: count, next: names[next]! };
}

function conflictOf(host: Host, { space, at }: WordAddress, steps: readonly TraceStep[], hwpts: ReadonlyMap<number, string>): ConflictingWord {
  const last = steps.findLast((step) => step.space === space && step.at === at && isWrite(step));
  const text = last?.label ?? (space === 1 ? nameOfWord(host.kernel, at) : null) ?? `word 0x${at.toString(16)}`;
  const value = last?.value ?? peek(host.kernel, at);
  const means = refersToHwpt.test(text) ? hwpts.get(value) : undefined;
  return { label: text, space, at, ...(means && { means }), lastWrite: last === undefined ? null : { actor: last.actor, step: last.step, value: last.value } };
}

const isWrite = ({ op }: TraceStep): boolean => op === 'STORE' || op === 'RMW' || op === 'WRITE' || op === 'WROTE';

/** What an actor's own code runs into. */
const byItself: ReadonlySet<string> = new Set(['O2', 'THROWN', 'CHECK']);

const freedLabel = label(freedText);

/** Fields whose values `readHwpts` can name. */
const refersToHwpt = /^(IommufdGroup\.hwpt|IommufdDevice\.hwpt|IommuGroup\.domain)$/;
