/**
 * Recording a history: one event; and what it costs a run that does nothing but DMA, in which every transaction takes two stamps and writes
 * an event. The ring is forgotten when it is half full, as at the end of a slice; nobody judges.
 */
import { History, event, historyBytes } from '#hostmem/history';
import { Host } from '#hostmem/host';
import type { Memory } from '#hostmem/memory';
import { attachFunctions } from '../attached.ts';
import { devicePages as pages, dmaAll, drive, type Driven } from '../device.ts';
import type { Question, Row } from '../question.ts';

const happened = event('BenchHappened', ['first', 'second']);
const capacity = 1 << 14;

function recording(): History {
  return new History(new SharedArrayBuffer(historyBytes(1, capacity)), 1, capacity);
}

function forgetHalf(history: History): void {
  if (history.length(0) * 2 > capacity) history.clear();
}

function emitAll(memory: Memory, history: History, count: number): number {
  forgetHalf(history);
  const before = history.length(0);
  for (let i = 0; i < count; i++) happened.emit(memory, i, count);
  return history.length(0) - before;
}

/** A function of its own, whose thread records or does not. */
function device(history: History | null): Driven {
  const driven = drive(attachFunctions(1, pages)[0]!);
  driven.host.kernel.history = history;
  driven.host.ram.history = history;
  return driven;
}

function rowsOf(bytes: number, operations: number): Row[] {
  const history = recording();
  const [silent, told] = [device(null), device(history)];
  const recorded = (): number => {
    forgetHalf(history);
    return dmaAll(told, false, pages, bytes, operations);
  };
  return [
    { name: `dma-${bytes}/off`, operations, call: () => dmaAll(silent, false, pages, bytes, operations) },
    { name: `dma-${bytes}/recorded`, operations, against: `dma-${bytes}/off`, call: recorded },
  ];
}

export default {
  asks: 'what does an event cost, and what does recording cost a run that does nothing but DMA?',
  prepare(tiny) {
    const operations = tiny ? 16 : 2048;
    const memory = Host.create(65_536, 65_536).kernel;
    const history = recording();
    memory.history = history;
    return {
      rows: [
        { name: 'event', operations, call: () => emitAll(memory, history, operations) },
        ...rowsOf(64, operations), ...rowsOf(4096, Math.max(1, operations / 8)),
      ],
    };
  },
} satisfies Question;
