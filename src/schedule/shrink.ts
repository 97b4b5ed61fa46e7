/**
 * Makes a failing schedule small: fewest forced switches first, fewest steps second.
 *
 * Pure but for the `replay` it is given, which decides what "the same failure" is. Every success is taken as it was
 * recorded anew, so that switches that no longer do anything fall away by themselves.
 */
import { startOfSchedule, type Switch } from './board.ts';
import { turnsWithout, withFaults, type Turn } from './straighten.ts';

export interface Attempt {
  /** The same class of failure as the one being shrunk. */
  readonly sameFailure: boolean;
  /** As recorded by this run. */
  readonly switches: readonly Switch[];
  readonly steps: number;
  /** Who broke it, and how far every actor was then: what `transplanted` builds on. */
  readonly scene?: Scene | undefined;
  /** Who went on when: what leaving out actors builds on. */
  readonly turns?: readonly Turn[] | undefined;
}

/** The moment of a failure: the actor that broke it, or null, and how many operations each actor had announced. */
export interface Scene {
  readonly actor: number | null;
  readonly counts: readonly number[];
}

export interface Shrunk {
  readonly switches: readonly Switch[];
  readonly steps: number;
  /** How many schedules that took. */
  readonly replays: number;
}

export interface ShrinkOptions {
  /** How many could start: real actors. */
  readonly actors: number;
  readonly maxReplays?: number;
  /** Other schedules that may fail as the one that was run last did (`straightened`). They are tried first. */
  simpler?(scene: Scene | undefined, switches: readonly Switch[]): readonly (readonly Switch[])[];
}

/**
 * What has no switch cannot be made smaller, and what has one only by leaving it out: the search ends there. Where the way by simpler schedules
 * leads to a list that is still long, the way without them is gone, too.
 */
export async function shrink(
  failing: Omit<Attempt, 'sameFailure'>,
  replay: (switches: readonly Switch[]) => Promise<Attempt>,
  { actors, maxReplays = 2_000, simpler }: ShrinkOptions,
): Promise<Shrunk> {
  const shrinker = new Shrinker(failing, replay, maxReplays);
  await shrinker.simplify(simpler ?? (() => []));
  if (shrinker.switches.length > many) await shrinker.leaveOutActors(actors);
  if (shrinker.switches.length > many) await shrinker.simplify(simpler ?? (() => []));
  if (shrinker.switches.length <= many) await shrinker.tryAll(() => released(shrinker.switches, shrinker.scene, actors));
  await minimize(shrinker, actors);
  if (shrinker.switches.length <= few || simpler === undefined) return resultOf(shrinker, 0);
  const other = new Shrinker(failing, replay, maxReplays);
  await minimize(other, actors);
  return other.switches.length < shrinker.switches.length ? resultOf(other, shrinker.replays) : resultOf(shrinker, other.replays);
}

/** Switches that most failures need at most. */
const few = 2;
/** Switches that are worth looking for actors to leave out. */
const many = 12;

const resultOf = ({ switches, steps, replays }: Shrinker, others: number): Shrunk => ({ switches, steps, replays: replays + others });

async function minimize(shrinker: Shrinker, actors: number): Promise<void> {
  for (let before = -1; shrinker.switches.length > 1 && shrinker.improvements > before; ) {
    before = shrinker.improvements;
    await shrinker.deleteChunks();
    await shrinker.tryAll(retargeted);
    await shrinker.tryAll((switches) => startedElsewhere(switches, shrinker.scene, actors));
    await shrinker.tryAll(mirrored);
    await shrinker.tryAll(withoutPairs);
    if (shrinker.switches.length > few) await shrinker.tryAll((switches) => transplanted(switches, shrinker.scene, actors));
  }
}

class Shrinker {
  switches: readonly Switch[];
  steps: number;
  replays = 0;
  improvements = 0;
  scene: Scene | undefined;
  #turns: readonly Turn[] | undefined;
  readonly #replay: (switches: readonly Switch[]) => Promise<Attempt>;
  readonly #maxReplays: number;
  readonly #tried = new Set<string>();

  constructor(
    { switches, steps, scene, turns }: Omit<Attempt, 'sameFailure'>,
    replay: (switches: readonly Switch[]) => Promise<Attempt>,
    maxReplays: number,
  ) {
    this.switches = switches;
    this.steps = steps;
    this.scene = scene;
    this.#turns = turns;
    this.#replay = replay;
    this.#maxReplays = maxReplays;
  }

  /** Lets actors come last, many at once to begin with; the one that broke the schedule stays. */
  async leaveOutActors(actors: number): Promise<void> {
    const left = (): number[] => [...new Set(this.#turns?.map(({ actor }) => actor))].filter((actor) => actor < actors && actor !== this.scene?.actor);
    const leftOut = new Set<number>();
    for (let length = Math.ceil(left().length / 2); length >= 1; length = Math.floor(length / 2)) {
      for (let from = 0; from < left().length; ) {
        const chunk = left().filter((actor) => !leftOut.has(actor)).slice(from, from + length);
        if (chunk.length > 0 && (await this.#accept(this.#without(new Set([...leftOut, ...chunk]))))) for (const actor of chunk) leftOut.add(actor);
        else from += length;
      }
    }
  }

  #without(actors: ReadonlySet<number>): Switch[] {
    return withFaults(turnsWithout(this.#turns ?? [], actors), this.switches);
  }

  /** Deletes runs of switches, the long ones first (ddmin, Zeller and Hildebrandt 2002). */
  async deleteChunks(): Promise<void> {
    for (let length = this.switches.length; length >= 1; length = Math.floor(length / 2)) {
      for (let from = 0; from < this.switches.length; ) {
        const kept = [...this.switches.slice(0, from), ...this.switches.slice(from + length)];
        if (!(await this.#accept(kept))) from += length;
      }
    }
  }

  /** The simplest there may be is none; else simpler ones, for as long as they halve the list. */
  async simplify(simpler: NonNullable<ShrinkOptions['simpler']>): Promise<void> {
    if (this.switches.length === 0) return;
    // Before the board forgets the schedule that they are made of.
    let candidates = [[], ...simpler(this.scene, this.switches)];
    for (let before = Infinity; before > this.switches.length; candidates = [...simpler(this.scene, this.switches)]) {
      before = this.switches.length;
      for (const candidate of candidates) if (await this.#accept(candidate)) break;
      if (this.switches.length <= 1 || 2 * this.switches.length > before) return;
    }
  }

  /** Tries what `candidates` makes of the best list, from the beginning after each success. */
  async tryAll(candidates: (switches: readonly Switch[]) => Switch[][]): Promise<void> {
    for (let pending = candidates(this.switches); pending.length > 0 && this.switches.length > 1; ) {
      if (await this.#accept(pending.shift()!)) pending = candidates(this.switches);
    }
  }

  async #accept(candidate: readonly Switch[]): Promise<boolean> {
    const key = candidate.map(({ actor, count, next }) => `${actor}.${count}.${next}`).join();
    if (this.#tried.has(key) || this.replays >= this.#maxReplays) return false;
    this.#tried.add(key);
    this.replays++;
    const attempt = await this.#replay(candidate);
    if (!attempt.sameFailure || !this.#isBetter(attempt)) return false;
    this.switches = attempt.switches;
    this.steps = attempt.steps;
    this.scene = attempt.scene;
    this.#turns = attempt.turns;
    this.improvements++;
    return true;
  }

  #isBetter({ switches, steps }: Attempt): boolean {
    if (switches.length !== this.switches.length) return switches.length < this.switches.length;
    return steps < this.steps;
  }
}

/** A switch a -> b that is followed by b -> c becomes a -> c. */
function retargeted(switches: readonly Switch[]): Switch[][] {
  const candidates: Switch[][] = [];
  for (let i = 0; i + 1 < switches.length; i++) {
    const [first, second] = [switches[i]!, switches[i + 1]!];
    if (first.next !== second.actor || first.actor === second.next) continue;
    candidates.push([...switches.slice(0, i), { ...first, next: second.next }, ...switches.slice(i + 2)]);
  }
  return candidates;
}

/** By one of those that take part. */
function startedElsewhere(switches: readonly Switch[], scene: Scene | undefined, actors: number): Switch[][] {
  const others = switches.filter(({ actor }) => actor !== startOfSchedule);
  const partners = new Set([0, scene?.actor ?? 0, ...switches.flatMap(({ actor, next }) => [actor, next])].filter((actor) => actor < actors));
  const starts = [...partners].map((next): Switch[] => (next === 0 ? [] : [{ actor: startOfSchedule, count: 0, next }]));
  // With another start, what was two switches is often one, or none: all of the rest is left out, then each once.
  return starts.flatMap((start) => [withFaults(start, others), [...start, ...others], ...others.map((_, i) => [...start, ...others.toSpliced(i, 1)])]);
}

/** A race that another actor starts is often the same race with the first actor in its place, and needs no other start then. */
function mirrored([start, ...others]: readonly Switch[]): Switch[][] {
  if (start === undefined || start.actor !== startOfSchedule) return [];
  const swap = (actor: number): number => (actor === 0 ? start.next : actor === start.next ? 0 : actor);
  return [others.map(({ actor, count, next }) => ({ actor: swap(actor), count, next: swap(next) }))];
}

/** Two switches that only make sense together, where there are few. */
function withoutPairs(switches: readonly Switch[]): Switch[][] {
  if (switches.length > 10) return [];
  const candidates: Switch[][] = [];
  for (let i = 0; i < switches.length; i++) {
    for (let j = i + 1; j < switches.length; j++) candidates.push(switches.filter((_, at) => at !== i && at !== j));
  }
  return candidates;
}

/** The failure as one switch: somebody is held where it stood, and the one that broke it goes on to its end. */
function released(switches: readonly Switch[], scene: Scene | undefined, actors: number): Switch[][] {
  const breaker = scene?.actor;
  if (scene === undefined || breaker === null || breaker === undefined || breaker >= actors) return [];
  const held = scene.counts.map((count, actor): Switch => ({ actor, count, next: breaker }));
  return held.filter(({ actor, count }) => actor !== breaker && count > 0 && switches.some((one) => one.actor === actor)).map((one) => withFaults([one], switches));
}

/** How far before its end the actor that broke it is tried to be held. */
const window = 24;

/**
 * The failure as a race of two, everybody else by default: `paused` is held where it stood, and the one that broke it runs
 * on; that one is held before, where it had what it later used wrongly. Deleting one switch after another cannot get there
 * when each of them moves the others' moments.
 */
function transplanted(switches: readonly Switch[], scene: Scene | undefined, actors: number): Switch[][] {
  const breaker = scene?.actor;
  if (scene === undefined || breaker === null || breaker === undefined || breaker >= actors) return [];
  const end = scene.counts[breaker]!;
  const candidates: Switch[][] = [];
  for (let paused = 0; paused < actors; paused++) {
    const count = scene.counts[paused]!;
    if (paused === breaker || count === 0) continue;
    const release: Switch = { actor: paused, count, next: breaker };
    for (let before = 1; before <= Math.min(window, end - 1); before++) candidates.push(withFaults([{ actor: breaker, count: end - before, next: paused }, release], switches));
  }
  return candidates;
}
