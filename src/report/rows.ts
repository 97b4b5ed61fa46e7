/**
 * Which steps of a trace are worth telling: events, the words that disagree, the locks around them, the pauses.
 */
import { formatValue, sameWord, writers } from './disagreement.ts';
import { writes, type Failure, type TraceStep } from './failure.ts';
import { covers, type LockSpan } from './lock-spans.ts';
import { describePause, type Pause } from './pauses.ts';

export interface Row {
  readonly step: number;
  readonly actor: string;
  readonly text: string;
  /** What goes first when there is not enough room: the least. */
  readonly weight: number;
}

const weight = { read: 1, lock: 2, detail: 2.5, write: 3, event: 4, named: 0.4, lastWrite: 5, pause: 6 } as const;

/** Addresses, frames and numbers of objects that a text names: what the verdict is about is told first. */
const thingsNamed = (text: string): Set<string> => new Set(text.toLowerCase().match(/0x[0-9a-f]{3,}|frame 0x[0-9a-f]+|(pasid|hwpt|ioas|group) \d+/g) ?? []);

/** Actors without whom the failure would not be: in the scenario's order. */
export function actorsThatMatter(failure: Failure): string[] {
  const names = new Set(writers(failure.conflicts));
  for (const one of failure.switches) {
    if (one.actor !== null) names.add(one.actor);
    names.add(one.next);
  }
  for (const step of failure.steps) if (isFault(step)) names.add(step.actor);
  if (failure.violation.actor !== undefined) names.add(failure.violation.actor);
  // Found at rest, by nobody and in no word: who goes first is not all that it takes.
  else if (failure.conflicts.length === 0 && names.size < 2) for (const event of failure.events) names.add(event.actor);
  return failure.actors.filter((actor) => names.has(actor));
}

/** At most `most` rows in the order of the steps, and how many more there were. */
export function rowsThatMatter(
  failure: Failure,
  spans: readonly LockSpan[],
  held: readonly Pause[],
  most: number,
): { rows: Row[]; leftOut: number } {
  const actors = new Set(actorsThatMatter(failure));
  const rows: Row[] = [];
  const named = thingsNamed(failure.violation.message);
  for (const { step, actor, text, detail } of failure.events) {
    const own = detail === true ? weight.detail : weight.event;
    rows.push({ step, actor, text, weight: [...thingsNamed(text)].some((thing) => named.has(thing)) ? own + weight.named : own });
  }
  for (const { label, write, read, freed } of failure.found ?? []) {
    const [does, did] = freed === true ? ['gives back the object of', 'uses'] : ['changes', 'reads'];
    rows.push({ ...write, text: `${does} ${label}`, weight: weight.lastWrite }, { ...read, text: `${did} ${label}`, weight: weight.lastWrite });
  }
  const locks = locksThatMatter(failure, spans, held);
  for (const step of failure.steps) {
    const row = rowOf(failure, locks, step);
    if (row !== null) rows.push(row);
  }
  for (const pause of held) {
    rows.push({ step: pause.afterStep, actor: pause.actor ?? pause.next, text: describePause(pause), weight: weight.pause });
  }
  const wanted = rows.filter((row) => actors.has(row.actor)).sort(inOrder);
  return thin(wanted, most, focus(failure, held));
}

/** By step; at one step the access, then what it led to, then the pause. */
function inOrder(a: Row, b: Row): number {
  const rank = (row: Row): number => (row.weight === weight.pause ? 2 : row.weight >= weight.detail && row.weight < weight.lastWrite && row.weight !== weight.write ? 1 : 0);
  return a.step - b.step || rank(a) - rank(b);
}

/** A choice that was not the usual one. */
const isFault = ({ op, value }: TraceStep): boolean => op === 'CHOICE' && value !== 0;

function rowOf(failure: Failure, locks: readonly LockSpan[], one: TraceStep): Row | null {
  const { step, actor, op, label, value } = one;
  if (isFault(one)) return { step, actor, text: label, weight: weight.pause };
  if (failure.conflicts.some((word) => sameWord(word, one))) {
    const last = failure.conflicts.some((word) => word.lastWrite?.step === step);
    const shown = one.means ?? formatValue(value);
    if (writes(op)) return { step, actor, text: `${label} := ${shown}`, weight: last ? weight.lastWrite : weight.write };
    if (op === 'LOAD' || op === 'READ') return { step, actor, text: `reads ${label}: ${shown}`, weight: weight.read };
  }
  const span = locks.find((lock) => lock.actor === actor && (lock.from === step || lock.to === step));
  if (span === undefined) return null;
  const done = span.from === step ? 'lock' : 'unlock';
  return { step, actor, text: `${done} ${label}${span.shared ? ' (shared)' : ''}`, weight: weight.lock };
}

/** The locks held at a write of a word that disagrees, at a pause, or at the end. */
function locksThatMatter(failure: Failure, spans: readonly LockSpan[], held: readonly Pause[]): LockSpan[] {
  const moments = failure.steps.filter((step) => writes(step.op) && failure.conflicts.some((word) => sameWord(word, step)));
  return spans.filter(
    (span) =>
      span.to === null ||
      moments.some((moment) => moment.actor === span.actor && covers(span, moment.step, moment.step)) ||
      held.some((pause) => pause.actor === span.actor && covers(span, pause.afterStep, pause.afterStep)),
  );
}

/** The steps at which the failure was decided. */
function focus(failure: Failure, held: readonly Pause[]): number[] {
  const last = failure.conflicts.flatMap((word) => (word.lastWrite === null ? [] : [word.lastWrite.step]));
  const points = [...held.map((pause) => pause.afterStep), ...last];
  return points.length > 0 ? points : [failure.steps.at(-1)?.step ?? 0];
}

/** Drops what weighs least, of that what is farthest from the focus. */
function thin(rows: readonly Row[], most: number, points: readonly number[]): { rows: Row[]; leftOut: number } {
  const distance = (row: Row): number => Math.min(...points.map((point) => Math.abs(row.step - point)));
  const ranked = [...rows].sort((a, b) => b.weight - a.weight || distance(a) - distance(b));
  const kept = new Set(ranked.slice(0, most));
  return { rows: rows.filter((row) => kept.has(row)), leftOut: Math.max(0, rows.length - most) };
}
