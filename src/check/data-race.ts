/**
 * Data races, as FastTrack finds them: two accesses to a word, one of them a write and at least one of them plain, with nothing
 * between them that orders them. A race is found also in an execution that took them in a harmless order.
 *
 * Locks, waits and the sequentially consistent operations order: who reads a word so knows all that its writers knew. Words that are
 * plain on purpose (what a hardware walker reads while software writes it) are named by the caller. It reads traces and knows nothing
 * of what a word means.
 */
import { freedText } from '#hostmem/labels';
import { wordOf, type TracedStep } from './traced-step.ts';

/** The later access, and the earlier one that nothing orders before it. */
export interface DataRace {
  readonly first: TracedStep;
  readonly second: TracedStep;
}

/** What an actor knows of the others: how many steps of each. */
type Clock = number[];

/** The accesses to a word that are still of interest: the last of each actor, by kind. */
interface Accesses {
  readonly reads: (TracedStep | undefined)[];
  readonly writes: (TracedStep | undefined)[];
  /** When: the actor's own clock at the access. */
  readonly readAt: Clock;
  readonly writtenAt: Clock;
}

const acquiring: ReadonlySet<string> = new Set(['LOCK', 'RLOCK', 'WAIT', 'LOAD', 'RMW']);
const releasing: ReadonlySet<string> = new Set(['UNLOCK', 'RUNLOCK', 'STORE', 'RMW']);
const plain: ReadonlySet<string> = new Set(['READ', 'WRITE']);

/** The first race of each pair of labels in an execution, in order; entries for which `isMarked` says so take no part. */
export function dataRaces(trace: readonly TracedStep[], isMarked: (entry: TracedStep) => boolean): DataRace[] {
  const execution = new Execution();
  const found = new Map<string, DataRace>();
  for (const entry of trace) {
    const race = execution.step(entry, !isMarked(entry));
    if (race === null) continue;
    const key = `${race.first.actor} ${race.first.op} ${race.second.actor} ${race.second.op} ${entry.label}`;
    if (!found.has(key)) found.set(key, race);
  }
  return [...found.values()];
}

class Execution {
  readonly #clocks = new Map<number, Clock>();
  readonly #released = new Map<number, Clock>();
  readonly #accesses = new Map<number, Accesses>();

  step(entry: TracedStep, judged: boolean): DataRace | null {
    if (entry.label === freedText) {
      this.#forget(wordOf(entry));
      return null;
    }
    const clock = this.#clockOf(entry.actor);
    clock[entry.actor]!++;
    if (acquiring.has(entry.op)) join(clock, this.#released.get(wordOf(entry)));
    const race = judged && isAccess(entry) ? this.#access(entry, clock) : null;
    if (releasing.has(entry.op)) this.#release(wordOf(entry), clock);
    return race;
  }

  /** A word was freed: what lies there next is another thing. */
  #forget(word: number): void {
    this.#accesses.delete(word);
    this.#released.delete(word);
  }

  #access(entry: TracedStep, clock: Clock): DataRace | null {
    const accesses = this.#accessesTo(wordOf(entry));
    const writes = entry.op !== 'READ' && entry.op !== 'LOAD';
    const first = unordered(accesses.writes, accesses.writtenAt, entry, clock)
      ?? (writes ? unordered(accesses.reads, accesses.readAt, entry, clock) : null);
    (writes ? accesses.writes : accesses.reads)[entry.actor] = entry;
    (writes ? accesses.writtenAt : accesses.readAt)[entry.actor] = clock[entry.actor]!;
    return first === null ? null : { first, second: entry };
  }

  #release(word: number, clock: Clock): void {
    const released = this.#released.get(word);
    if (released === undefined) this.#released.set(word, [...clock]);
    else join(released, clock);
  }

  #clockOf(actor: number): Clock {
    let clock = this.#clocks.get(actor);
    if (clock === undefined) this.#clocks.set(actor, (clock = []));
    clock[actor] ??= 0;
    return clock;
  }

  #accessesTo(word: number): Accesses {
    let accesses = this.#accesses.get(word);
    if (accesses === undefined) this.#accesses.set(word, (accesses = { reads: [], writes: [], readAt: [], writtenAt: [] }));
    return accesses;
  }
}

const isAccess = ({ op }: TracedStep): boolean => plain.has(op) || op === 'LOAD' || op === 'STORE' || op === 'RMW';

/** An earlier access of somebody else that `entry`'s actor does not know of; two atomic operations never race. */
function unordered(earlier: readonly (TracedStep | undefined)[], at: Clock, entry: TracedStep, clock: Clock): TracedStep | null {
  for (let actor = 0; actor < earlier.length; actor++) {
    const one = earlier[actor];
    if (one === undefined || actor === entry.actor || at[actor]! <= (clock[actor] ?? 0)) continue;
    if (plain.has(one.op) || plain.has(entry.op)) return one;
  }
  return null;
}

/** The race in words: who touches what after whom, and that nothing orders the two. */
export function describeRace({ first, second }: DataRace, names: readonly string[]): string {
  const access = ({ actor, op, step }: TracedStep): string => `${names[actor] ?? `actor ${actor}`} ${op === 'READ' || op === 'LOAD' ? 'reads' : 'writes'} it (step ${step})`;
  return `${second.label} is touched by two at once: ${access(first)}, ${access(second)}, and nothing orders the one before the other`;
}

function join(into: Clock, from: Clock | undefined): void {
  if (from === undefined) return;
  for (let actor = 0; actor < from.length; actor++) if ((from[actor] ?? 0) > (into[actor] ?? 0)) into[actor] = from[actor]!;
}
