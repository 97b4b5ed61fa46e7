import { chromeTrace, type TraceEvent } from '#src/report/chrome-trace';
import { expect, test } from 'vitest';
import { interleaved } from './failures.ts';

const { traceEvents } = chromeTrace(interleaved);
const named = (name: string): TraceEvent[] => traceEvents.filter((event) => event.name === name);

test('every step and every event stands on the track of its actor', () => {
  const track = traceEvents.find((event) => event.name === 'thread_name' && event.args?.['name'] === 'vmm-b')!.tid;
  expect(traceEvents.filter((event) => event.cat === 'step')).toHaveLength(interleaved.steps.length);
  expect(named('REPLACE edu2 -> ioas 2')).toMatchObject([{ ph: 'i', tid: track, ts: 5.5 }]);
});

test('a lock has a track of its own, on which the spans of its holders do not overlap', () => {
  const spans = traceEvents.filter((event) => event.cat === 'lock').sort((a, b) => a.ts! - b.ts!);
  expect(spans.map((span) => [span.name, span.ts, span.dur])).toEqual([
    ['vmm-a', 2, 2],
    ['vmm-b', 6, 2],
    ['vmm-b', 10, 2],
    ['vmm-a', 13, 2],
  ]);
  expect(new Set(spans.map((span) => span.tid)).size).toBe(1);
});

test('the pause and the violation are marked, and the file survives JSON', () => {
  expect(named('vmm-a is paused here until vmm-b has returned')).toHaveLength(1);
  expect(traceEvents.filter((event) => event.cat === 'violation')).toMatchObject([{ ts: 15.9 }]);
  expect(JSON.parse(JSON.stringify(chromeTrace(interleaved)))).toEqual(chromeTrace(interleaved));
});
