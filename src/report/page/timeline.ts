/**
 * The drawing of a schedule: a lane for each actor from left to right, one column for each step. In a lane: when it ran, its events, its
 * writes of the words that disagree, where it was held; under it a thin strip for each contended lock that it held. Behind all, shaded, the
 * time in which the words disagreed.
 */
import type { Failure, TraceStep } from '../failure.ts';
import { writes } from '../failure.ts';
import { sameWord } from '../disagreement.ts';
import { contended, lockSpans, type LockSpan } from '../lock-spans.ts';
import { describePause, pauses } from '../pauses.ts';
import { escapeText } from './escape.ts';

/** Pixels. */
const head = 18;
const lane = 30;
const strip = 5;
const gap = 10;

/** How many owners of memory, and how many locks, have a colour of their own; the rest share them in turn. */
export const palette = 6;

export interface Timeline {
  readonly svg: string;
  /** Names of the lanes with their heights, from the top: they stay in sight while the drawing is scrolled. */
  readonly lanes: readonly { readonly name: string; readonly heightPx: number }[];
  /** Contended locks, in the order of their colours. */
  readonly locks: readonly string[];
  /** Whose memory DMA reached, each with the number of its colour. */
  readonly owners: ReadonlyMap<string, number>;
}

interface Lane {
  readonly actor: string;
  readonly top: number;
  readonly height: number;
  readonly locks: readonly LockSpan[][];
}

export function drawTimeline(failure: Failure): Timeline {
  const steps = failure.steps;
  const last = Math.max(1, steps.at(-1)?.step ?? 1);
  const column = Math.min(14, Math.max(3, 1100 / (last + 1)));
  const x = (step: number): number => Math.round(step * column * 10) / 10;
  const spans = contended(lockSpans(steps), failure.actors);
  const locks = [...new Set(spans.map(({ label }) => label))];
  const lanes = layOut(failure, spans);
  const height = (lanes.at(-1)?.top ?? 0) + (lanes.at(-1)?.height ?? 0) + 4;
  const width = Math.ceil(x(last + 2));
  const owners = ownersOf(failure);
  const parts = [
    ...shade(failure, x, height),
    ...ticks(last, x, height),
    ...lanes.flatMap((one) => [...runs(failure, one, x), ...strips(one, x, last, locks), ...marks(failure, one, x, owners)]),
    `<line id="cursor" class="cursor" x1="0" x2="0" y1="0" y2="${height}"/>`,
  ];
  return {
    svg: `<svg id="timeline" role="img" aria-label="What each actor did, step by step" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" data-column="${column}">${parts.join('')}</svg>`,
    lanes: lanes.map(({ actor, height: heightPx }) => ({ name: actor, heightPx })),
    locks,
    owners,
  };
}

/** A lane for everybody who did anything. */
function layOut(failure: Failure, spans: readonly LockSpan[]): Lane[] {
  let top = head;
  const busy = new Set([...failure.steps, ...failure.events].map(({ actor }) => actor));
  return failure.actors.filter((actor) => busy.has(actor)).map((actor) => {
    const locks = byLock(spans.filter((span) => span.actor === actor));
    const height = lane + locks.length * (strip + 1) + gap;
    const placed = { actor, top, height, locks };
    top += height;
    return placed;
  });
}

function byLock(spans: readonly LockSpan[]): LockSpan[][] {
  const locks = new Map<string, LockSpan[]>();
  for (const span of spans) locks.set(span.label, [...(locks.get(span.label) ?? []), span]);
  return [...locks.values()];
}

/** From the first to the last of the latest writes of the words that disagree, or from the only one to the end. */
function shade(failure: Failure, x: (step: number) => number, height: number): string[] {
  const written = failure.conflicts.flatMap((word) => (word.lastWrite === null ? [] : [word.lastWrite.step]));
  if (written.length === 0) return [];
  const from = Math.min(...written);
  const to = failure.steps.at(-1)!.step + 1;
  return [`<rect class="window" x="${x(from)}" y="0" width="${x(to) - x(from)}" height="${height}"><title>the words disagree, from step ${from} to the end</title></rect>`];
}

function ticks(last: number, x: (step: number) => number, height: number): string[] {
  const every = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((one) => x(one) >= 60) ?? 10_000;
  const lines: string[] = [];
  for (let step = every; step <= last; step += every) {
    lines.push(`<line class="tick" x1="${x(step)}" x2="${x(step)}" y1="${head - 4}" y2="${height}"/><text class="tick" x="${x(step)}" y="11">${step}</text>`);
  }
  return lines;
}

/** The actor's uninterrupted stretches. */
function runs(failure: Failure, { actor, top }: Lane, x: (step: number) => number): string[] {
  const bars: string[] = [];
  let from: TraceStep | null = null;
  let to: TraceStep | null = null;
  const close = (): void => {
    if (from === null || to === null) return;
    bars.push(`<rect class="run" x="${x(from.step)}" y="${top + 9}" width="${x(to.step + 1) - x(from.step)}" height="12" rx="2"><title>${escapeText(actor)}: steps ${from.step} to ${to.step}</title></rect>`);
    from = null;
  };
  for (const step of failure.steps) {
    if (step.actor !== actor) close();
    else {
      from ??= step;
      to = step;
    }
  }
  close();
  return bars;
}

function strips({ top, locks }: Lane, x: (step: number) => number, last: number, colours: readonly string[]): string[] {
  return locks.flatMap((spans, index) => {
    const y = top + lane + index * (strip + 1);
    return spans.map((span) => {
      const to = span.to ?? last + 1;
      const held = `${span.label}${span.shared ? ' (shared)' : ''}: steps ${span.from} to ${span.to ?? 'the end'}`;
      return `<rect class="lock c${colours.indexOf(span.label) % palette}" x="${x(span.from)}" y="${y}" width="${Math.max(2, x(to) - x(span.from))}" height="${strip}"><title>${escapeText(held)}</title></rect>`;
    });
  });
}

/** Events, writes of the words that disagree, and pauses. */
function marks(failure: Failure, { actor, top }: Lane, x: (step: number) => number, owners: ReadonlyMap<string, number>): string[] {
  const y = top + 15;
  const events = failure.events.filter((event) => event.actor === actor).map(({ step, text, reached }) => {
    const kind = reached === undefined ? 'event' : `dma c${owners.get(reached)! % palette}`;
    return `<circle class="${kind}" cx="${x(step + 0.5)}" cy="${y}" r="4.5"><title>step ${step}: ${escapeText(text)}</title></circle>`;
  });
  const written = failure.steps.filter((step) => step.actor === actor && writes(step.op) && failure.conflicts.some((word) => sameWord(word, step)));
  const diamonds = written.map(({ step, label, value, means }) => {
    const at = x(step + 0.5);
    return `<path class="write" d="M${at} ${y - 8}L${at + 7} ${y}L${at} ${y + 8}L${at - 7} ${y}Z"><title>step ${step}: ${escapeText(`${label} := ${means ?? value}`)}</title></path>`;
  });
  const held = pauses(failure).filter((pause) => pause.actor === actor).map((pause) => {
    const from = x(pause.afterStep + 1);
    const to = x(pause.resumesAt ?? failure.steps.at(-1)!.step + 1);
    return `<line class="pause" x1="${from}" x2="${to}" y1="${y}" y2="${y}"><title>${escapeText(describePause(pause))}</title></line>`;
  });
  return [...held, ...events, ...diamonds];
}

function ownersOf(failure: Failure): Map<string, number> {
  const owners = new Map<string, number>();
  for (const { reached } of failure.events) if (reached !== undefined && !owners.has(reached)) owners.set(reached, owners.size);
  return owners;
}
