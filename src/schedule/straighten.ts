/**
 * Schedules with few switches that do what a failing one did: its steps in another order, in which every two that depend on each other come as they
 * did, and nothing that the failure does not follow from (Huang and Zhang, SAS 2011, simplify traces so, without running anything).
 *
 * What is silent is in no order here, and other addresses may be drawn: whether a schedule fails the same way is for a replay to say.
 */
import { Op } from '#hostmem/atomics';
import { firstAlternative, Head, startOfSchedule, TraceWord, type Board, type Switch } from './board.ts';
import { Accesses, conflict, effect, Effect, eventLabel, isWhole } from './dependence.ts';

const access = new Accesses();

/** The steps of the last schedule: whose each is, its number among the operations of its actor, and which steps it depends on. */
interface Step {
  readonly actor: number;
  /** How many operations its actor had announced once it was done. */
  readonly ops: number;
  readonly after: number[];
  /** The next step of the same actor, or -1. */
  next: number;
}

/** What is known of a word: the last step that wrote it, and those that used it since. */
interface Word {
  written: number;
  readonly used: { readonly step: number; readonly kind: Effect }[];
}

/** A stretch of a schedule in which one actor goes on, up to the operation with that number, which it has announced. */
export interface Turn {
  readonly actor: number;
  readonly count: number;
}

/** The turns of the last schedule, as far as the board holds them. */
export function turnsOf(board: Board): Turn[] {
  if (!isWhole(board)) return [];
  const steps = stepsOf(board, false);
  return steps.flatMap(({ actor, ops }, step) => (steps[step + 1]?.actor === actor ? [] : [{ actor, count: ops + 1 }]));
}

/** The turns of some alone: the others come when none of these can go on. */
export function turnsWithout(turns: readonly Turn[], leftOut: ReadonlySet<number>): Switch[] {
  const switches: Switch[] = [];
  let before: Turn = { actor: startOfSchedule, count: 0 };
  for (const turn of turns) {
    if (leftOut.has(turn.actor)) continue;
    if (turn.actor !== before.actor) switches.push({ ...before, next: turn.actor });
    before = turn;
  }
  return switches;
}

/**
 * The best order first. `breaker` broke the schedule with its last step; where it is null, all steps count. Empty where the
 * board does not hold all of the schedule. An order may forget that judges see the order of events: it may fail all the same.
 */
export function straightened(board: Board, breaker: number | null, switches: readonly Switch[]): Switch[][] {
  if (!isWhole(board) || board.get(Head.traceLength) === 0) return [];
  return [false, true].map((events) => {
    const steps = stepsOf(board, events);
    const wanted = breaker === null ? steps.map(() => true) : causes(steps);
    return withFaults(fewestTurns(steps, wanted, board.actors + board.engines), switches);
  });
}

/** With what each depends on: the order of events, too, where that is to be kept. */
function stepsOf(board: Board, events: boolean): Step[] {
  const steps: Step[] = [];
  const words = new Map<number, Word>();
  const lastOf: number[] = [];
  const opsOf = Array.from({ length: board.actors + board.engines }, () => 0);
  let number = -1;
  for (let entry = 0; entry < board.get(Head.traceLength); entry++) {
    if (!access.turn(board, entry)) continue;
    const { actor, op } = access;
    const its = board.get(board.traceAt(entry) + TraceWord.step);
    if (its !== number) {
      number = its;
      if (op !== Op.START) opsOf[actor]! += 1;
      const before = lastOf[actor];
      if (before !== undefined) steps[before]!.next = steps.length;
      lastOf[actor] = steps.length;
      steps.push({ actor, ops: opsOf[actor]!, after: before === undefined ? [] : [before], next: -1 });
    }
    if (events || access.label !== eventLabel) depend(steps, words, access.key, effect(op));
  }
  return steps;
}

/** Puts the newest step behind those that it depends on by a word. */
function depend(steps: readonly Step[], words: Map<number, Word>, key: number, kind: Effect): void {
  if (kind === Effect.NONE) return;
  const step = steps.length - 1;
  const word = words.get(key) ?? { written: -1, used: [] };
  words.set(key, word);
  const { after } = steps[step]!;
  if (word.written >= 0 && word.written !== step) after.push(word.written);
  for (const use of word.used) if (use.step !== step && conflict(use.kind, kind)) after.push(use.step);
  if (kind === Effect.WRITES) {
    word.written = step;
    word.used.length = 0;
  } else word.used.push({ step, kind });
}

/** The steps that the last one follows from. */
function causes(steps: readonly Step[]): boolean[] {
  const wanted = steps.map(() => false);
  wanted[steps.length - 1] = true;
  for (let step = steps.length - 1; step >= 0; step--) if (wanted[step]) for (const cause of steps[step]!.after) wanted[cause] = true;
  return wanted;
}

/** Who began begins, or who was last: it goes on for as long as it can and is followed by whoever can do most. The shorter list of switches of both. */
function fewestTurns(steps: readonly Step[], wanted: readonly boolean[], everyone: number): Switch[] {
  let best: Switch[] = [];
  let known = Infinity;
  for (const first of new Set([steps[0]!.actor, steps.at(-1)!.actor])) {
    const turns = takeTurns(steps, wanted, everyone, first, known);
    if (turns === null) continue;
    best = turns;
    known = turns.length;
  }
  return best;
}

/** Null where `first` cannot begin, or it takes as many turns as are known to do. */
function takeTurns(steps: readonly Step[], wanted: readonly boolean[], everyone: number, first: number, known: number): Switch[] | null {
  const done = steps.map(() => false);
  const next = Array.from({ length: everyone }, (_, actor) => steps.findIndex((step) => step.actor === actor));
  const run = (actor: number, isReal: boolean): number => {
    const from = next[actor]!;
    let at = from;
    while (at >= 0 && wanted[at] && steps[at]!.after.every((cause) => done[cause])) {
      done[at] = true;
      at = steps[at]!.next;
    }
    let count = 0;
    for (let step = from; step !== at; step = steps[step]!.next, count++) if (!isReal) done[step] = false;
    if (isReal) next[actor] = at;
    return count;
  };
  const switches: Switch[] = [];
  let current = startOfSchedule;
  for (let actor = first; actor >= 0; actor = longest(everyone, (other) => run(other, false))) {
    const turn: Switch = { actor: current, count: current === startOfSchedule ? 0 : opsBefore(steps, next, current), next: actor };
    if (switches.length + 1 >= known || run(actor, true) === 0) return null;
    switches.push(turn);
    current = actor;
  }
  return switches;
}

/** The number of the operation that an actor has announced when it is held. */
function opsBefore(steps: readonly Step[], next: readonly number[], actor: number): number {
  const at = next[actor]!;
  if (at >= 0) return steps[at]!.ops;
  return steps.findLast((step) => step.actor === actor)!.ops + 1;
}

/** Who can do most, or -1 where nobody can do anything. */
function longest(everyone: number, lengthOf: (actor: number) => number): number {
  let best = -1;
  let most = 0;
  for (let actor = 0; actor < everyone; actor++) {
    const length = lengthOf(actor);
    if (length > most) [best, most] = [actor, length];
  }
  return best;
}

/** With the faults of another list, at the operations where they were there; an actor's are in ascending order. */
export function withFaults(turns: readonly Switch[], others: readonly Switch[]): Switch[] {
  const faults = others.filter(({ next }) => next >= firstAlternative);
  return faults.length === 0 ? [...turns] : [...turns, ...faults].sort((one, other) => one.count - other.count);
}
