/**
 * A failure as Chrome trace JSON: opens in Perfetto or chrome://tracing. One track per actor, one per lock, so that spans
 * nest. One step is one microsecond; nothing here is a time that was measured.
 */
import { formatValue } from './disagreement.ts';
import type { Failure, TraceStep } from './failure.ts';
import { lockSpans } from './lock-spans.ts';
import { describePause, pauses } from './pauses.ts';

/** One event of the Trace Event Format (`X` span, `i` instant, `M` name of a process or thread). */
export interface TraceEvent {
  readonly name: string;
  readonly ph: 'X' | 'i' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly s?: 't' | 'p';
  readonly cat?: string;
  readonly args?: Readonly<Record<string, string | number | boolean>>;
}

export interface ChromeTrace {
  readonly displayTimeUnit: 'ms';
  readonly otherData: Readonly<Record<string, string>>;
  readonly traceEvents: readonly TraceEvent[];
}

const actorsProcess = 1;
const locksProcess = 2;

export function chromeTrace(failure: Failure): ChromeTrace {
  const { scenario, variant, violation, token } = failure;
  return {
    displayTimeUnit: 'ms',
    otherData: { scenario, variant, invariant: violation.invariant, message: violation.message, token },
    traceEvents: [...actorTracks(failure), ...lockTracks(failure)],
  };
}

function actorTracks(failure: Failure): TraceEvent[] {
  const track = (actor: string): number => failure.actors.indexOf(actor) + 1;
  const instant = (actor: string, name: string, step: number, cat: string): TraceEvent => ({
    name, cat, ph: 'i', s: 't', pid: actorsProcess, tid: track(actor), ts: step + 0.5,
  });
  const end = failure.steps.at(-1)?.step ?? 0;
  return [
    named('process_name', actorsProcess, 0, 'actors'),
    ...failure.actors.map((actor) => named('thread_name', actorsProcess, track(actor), actor)),
    ...failure.steps.map((step) => stepEvent(step, track(step.actor))),
    ...failure.events.map((event) => instant(event.actor, event.text, event.step, 'event')),
    ...pauses(failure).map((pause) => instant(pause.actor ?? pause.next, describePause(pause), pause.afterStep, 'switch')),
    {
      name: `${violationName(failure)}`, cat: 'violation', ph: 'i', s: 'p', pid: actorsProcess, ts: end + 0.9,
      tid: track(failure.violation.actor ?? failure.steps.at(-1)?.actor ?? ''),
    },
  ];
}

const violationName = ({ violation }: Failure): string => `${violation.invariant}: ${violation.message}`;

function stepEvent({ step, op, label, at, value, choice }: TraceStep, tid: number): TraceEvent {
  return {
    name: `${op} ${label}`, cat: 'step', ph: 'X', pid: actorsProcess, tid, ts: step, dur: 1,
    args: { step, address: `0x${at.toString(16)}`, value: formatValue(value), choice },
  };
}

function lockTracks(failure: Failure): TraceEvent[] {
  const spans = lockSpans(failure.steps);
  const keyOf = (lock: { space: number; at: number }): string => `${lock.space}:${lock.at}`;
  const tracks = new Map<string, { tid: number; label: string }>();
  for (const span of spans) if (!tracks.has(keyOf(span))) tracks.set(keyOf(span), { tid: tracks.size + 1, label: span.label });
  const end = (failure.steps.at(-1)?.step ?? 0) + 1;
  return [
    named('process_name', locksProcess, 0, 'locks'),
    ...[...tracks.values()].map(({ tid, label }) => named('thread_name', locksProcess, tid, label)),
    ...spans.map((span): TraceEvent => ({
      name: `${span.actor}${span.shared ? ' (shared)' : ''}`, cat: 'lock', ph: 'X', pid: locksProcess,
      tid: tracks.get(keyOf(span))!.tid, ts: span.from, dur: (span.to ?? end) - span.from,
    })),
  ];
}

function named(name: 'process_name' | 'thread_name', pid: number, tid: number, value: string): TraceEvent {
  return { name, ph: 'M', pid, tid, args: { name: value } };
}
