import { Cursor, event, History, historyBytes, shapeOf } from '#hostmem/history';
import { Host } from '#hostmem/host';
import { expect, test } from 'vitest';
import { Arena, runTasks } from './arena.ts';

const Pulse = event('test-pulse', ['iova', 'length']);

function history(rings: number, capacity: number): History {
  return new History(new SharedArrayBuffer(historyBytes(rings, capacity)), rings, capacity);
}

test('two threads stamp in one global order: no stamp twice, ascending in each ring, no event lost', async () => {
  const host = Host.create(65_536, 1 << 20);
  const arena = Arena.create(host.kernel);
  const rounds = 50_000;
  const shared = history(2, rounds);
  for (let run = 0; run < 6; run++) {
    shared.reset();
    await runTasks({ job: 'beat', buffers: host.buffers, arena, parties: 2, rounds, history: shared.words.buffer });
    const stamps = new Set([0, 1].flatMap((ring) => stampsOf(shared, ring, rounds)));
    expect(stamps.size).toBe(2 * rounds);
    expect(shared.overflowed).toBe(false);
  }
});

/** The stamps of a ring that one thread filled, having looked that nothing is missing and that they ascend. */
function stampsOf(shared: History, ring: number, rounds: number): number[] {
  expect(shared.length(ring)).toBe(rounds);
  const cursor = new Cursor(shared.words);
  const stamps: number[] = [];
  for (let index = 0; index < rounds; index++) {
    cursor.at = shared.at(ring, index);
    const isNext = cursor.stamp > (stamps[index - 1] ?? 0) && cursor.actor === ring + 1 && cursor.words[cursor.at + 2] === index;
    if (!isNext) throw new Error(`ring ${ring} is wrong at ${index}`);
    stamps.push(cursor.stamp);
  }
  return stamps;
}

test('a moment is behind every stamp before it, before every stamp after it, and no stamp', () => {
  const one = history(1, 4);
  const first = one.stamp();
  const moments = [one.moment(), one.moment()];
  const second = one.stamp();
  for (const moment of moments) expect(first < moment && moment < second).toBe(true);
  expect(one.moment()).toBeGreaterThan(second);
});

test('a full ring drops what comes and says so until it is cleared', () => {
  const kernel = Host.create(65_536, 65_536).kernel;
  kernel.history = history(1, 3);
  for (let i = 0; i < 3; i++) Pulse.emit(kernel, i);
  expect(kernel.history.overflowed).toBe(false);
  Pulse.emit(kernel, 3);
  expect([kernel.history.overflowed, kernel.history.length(0)]).toEqual([true, 3]);
  kernel.history.clear();
  expect([kernel.history.overflowed, kernel.history.length(0)]).toEqual([false, 0]);
});

test('an event keeps its words under their names, and one without a listener is nothing', () => {
  const kernel = Host.create(65_536, 65_536).kernel;
  Pulse.emit(kernel, 1, 2);
  const events = history(1, 3);
  kernel.history = events;
  const heard: number[] = [];
  events.listener = (kind) => heard.push(kind);
  Pulse.emit(kernel, 0x4000, -1);
  const cursor = new Cursor(events.words);
  cursor.at = events.at(0, 0);
  expect([cursor.kind, Pulse.get.iova(cursor), Pulse.get.length(cursor)]).toEqual([Pulse.kind, 0x4000, -1]);
  expect(heard).toEqual([Pulse.kind]);
  expect(shapeOf(Pulse.kind)).toEqual({ name: 'test-pulse', fields: ['iova', 'length'] });
  expect(() => event('test-pulse', [])).toThrow(/same number/);
});
