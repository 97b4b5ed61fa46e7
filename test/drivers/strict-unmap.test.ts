import { silent } from '#hostmem/atomics';
import { Cursor, History, historyBytes } from '#hostmem/history';
import { Memory, Space, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { vtdOperations, type VtdOperations } from '#src/drivers/vtd/operations';
import { dma as dmaEvent, DmaFlags } from '#src/hardware/events';
import { PciFunction } from '#src/hardware/function';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import type { VtdUnitOptions } from '#src/hardware/machine';
import { firstStageUnit, scalableUnit, smallMachine, type SmallMachine } from '../hardware/small-machine.ts';
import type { DmaLoop } from './dma-loop.ts';

const devices = 3;
const capacity = 150_000;
const iovas = [0x10000, 0x11000, 0x12000, 0x50000];
const canary = 0x0ca9a47;
const loopFile = fileURLToPath(new URL('../../dist/test/drivers/dma-loop.js', import.meta.url));

/** When a frame was behind an IOVA: from before it was mapped until the sync after its unmap had returned. */
interface Span {
  readonly iova: number;
  readonly frame: number;
  readonly from: number;
  until: number;
}

interface Outcome {
  /** Events that reached a frame outside the spans in which it was behind the IOVA. */
  strays: number;
  /** Frames that changed after the sync had returned. */
  scribbled: number;
  reached: number;
  hits: number;
}

/** What this thread does to the domain under three devices that do DMA on threads of their own. */
type Disturb = (small: SmallMachine, driver: VtdDriver, domain: Ref<'IommuDomain'>, history: History, rounds: number) => { spans: Span[]; scribbled: number };

async function race(unit: VtdUnitOptions, disturb: Disturb, operations: VtdOperations, rounds: number): Promise<Outcome> {
  const small = smallMachine(unit, Array.from({ length: devices }, (_, i) => ({ rid: 0x100 + i * 8 })));
  const driver = new VtdDriver(small.host, small.machine, operations);
  const functions = small.machine.functions();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  for (const each of functions) expect(driver.attach(domain, each)).toBe(0);
  const history = new History(new SharedArrayBuffer(historyBytes(devices, capacity)), devices, capacity);
  const flags = new Memory(new SharedArrayBuffer(64), Space.KERNEL);
  const workers = await start(small, history, flags);
  const { spans, scribbled } = disturb(small, driver, domain, history, rounds);
  silent.store(flags, 4, 1);
  await Promise.all(workers.map((worker) => worker.terminate()));
  const hits = functions.reduce((sum, each) => sum + PciFunction.hits.peek(small.host.kernel, each), 0);
  return { ...judge(history, spans), scribbled, hits };
}

async function start(small: SmallMachine, history: History, flags: Memory): Promise<Worker[]> {
  const common = { buffers: small.host.buffers, flags: flags.buffer, history: history.words.buffer, rings: devices, capacity, iovas, bytes: 64 };
  const workers = Array.from({ length: devices }, (_, index) => new Worker(loopFile, { workerData: { ...common, index } satisfies DmaLoop }));
  await Promise.all(workers.map((worker) => new Promise<void>((resolve, reject) => worker.once('online', resolve).once('error', reject))));
  while (silent.load(flags, 0) < devices) await new Promise((resolve) => setTimeout(resolve, 1));
  return workers;
}

/** All devices go from one domain to another and back; a frame is theirs from before the attach until the next one has returned. */
function replaceAgain(small: SmallMachine, driver: VtdDriver, domain: Ref<'IommuDomain'>, history: History, rounds: number): { spans: Span[]; scribbled: number } {
  const functions = small.machine.functions();
  const domains = [domain, driver.allocPagingDomain(functions[0]!, 0)];
  const frames = domains.map((each) => iovas.map((iova) => {
    const frame = small.host.frames.allocate(16);
    expect(driver.map(each, 0, iova, frame, 3)).toBe(0);
    return frame;
  }));
  const spans: Span[] = [];
  let current = iovas.map((iova, i) => ({ iova, frame: frames[0]![i]!, from: 0, until: Number.POSITIVE_INFINITY }));
  for (let round = 1; round < rounds; round++) {
    spans.push(...current);
    const next = iovas.map((iova, i) => ({ iova, frame: frames[round % 2]![i]!, from: history.stamp(), until: Number.POSITIVE_INFINITY }));
    for (const each of functions) expect(driver.attach(domains[round % 2]!, each)).toBe(0);
    const until = history.stamp();
    for (const span of current) span.until = until;
    current = next;
  }
  return { spans: [...spans, ...current], scribbled: 0 };
}

function mapAndUnmap(small: SmallMachine, driver: VtdDriver, domain: Ref<'IommuDomain'>, history: History, rounds: number): { spans: Span[]; scribbled: number } {
  const { frames, ram } = small.host;
  const spans: Span[] = [];
  const mapped: (Span | null)[] = iovas.map(() => null);
  const retired: Frame[] = [];
  let scribbled = 0;
  const retire = (frame: Frame): void => {
    ram.words.fill(canary, frame * 1024, frame * 1024 + 16);
    retired.push(frame);
    if (retired.length < 16) return;
    const oldest = retired.shift()!;
    if (ram.words.subarray(oldest * 1024, oldest * 1024 + 16).some((word) => word !== canary)) scribbled++;
    frames.drop(oldest);
  };
  for (let round = 0; round < rounds; round++) {
    const which = round % iovas.length;
    const iova = iovas[which]!;
    const old = mapped[which];
    if (old) {
      expect(driver.unmap(domain, 0, iova, 1)).toBe(1);
      driver.sync(domain, 0, iova, 1, true);
      old.until = history.stamp();
      retire(old.frame as Frame);
    }
    const span = { iova, frame: frames.allocate(16), from: history.stamp(), until: Number.POSITIVE_INFINITY };
    expect(driver.map(domain, 0, iova, span.frame, 3)).toBe(0);
    spans.push((mapped[which] = span));
  }
  return { spans, scribbled };
}

function judge(history: History, spans: readonly Span[]): { strays: number; reached: number } {
  const byPlace = new Map<string, Span[]>();
  for (const span of spans) byPlace.set(`${span.iova}:${span.frame}`, [...(byPlace.get(`${span.iova}:${span.frame}`) ?? []), span]);
  const cursor = new Cursor(history.words);
  let reached = 0;
  let strays = 0;
  for (let ring = 0; ring < devices; ring++) {
    for (let index = 0; index < history.length(ring); index++) {
      cursor.at = history.at(ring, index);
      if (cursor.kind !== dmaEvent.kind) continue;
      const frame = dmaEvent.get.frame(cursor);
      if (frame === 0) continue;
      reached++;
      const candidates = byPlace.get(`${dmaEvent.get.iovaLow(cursor) & ~DmaFlags.ownerMask}:${frame}`) ?? [];
      if (!candidates.some((span) => span.from < cursor.stamp && cursor.stamp < span.until)) strays++;
    }
  }
  return { strays, reached };
}

const units = [['legacy', {}], ['scalable, second stage', scalableUnit], ['scalable, first stage', firstStageUnit]] as const;

test.each(units)('once unmap and sync have returned, no DMA of three concurrent devices reaches the old frame, %s', async (_mode, unit) => {
  const outcome = await race(unit, mapAndUnmap, vtdOperations, 3000);
  expect(outcome).toMatchObject({ strays: 0, scribbled: 0 });
  expect(outcome.reached).toBeGreaterThan(0);
  expect(outcome.hits).toBeGreaterThan(0);
});

test.each(units)('the same race without invalidation is caught, %s', async (_mode, unit) => {
  expect(await straysSeen(() => race(unit, mapAndUnmap, { ...vtdOperations, flushRange: () => {} }, 3000))).toBe(true);
});

test.each(units)('once a replace has returned, no DMA of three concurrent devices reaches the old domain, %s', async (_mode, unit) => {
  const outcome = await race(unit, replaceAgain, vtdOperations, 1000);
  expect(outcome.strays).toBe(0);
  expect(outcome.reached).toBeGreaterThan(0);
});

test('a replace that does not flush the PASID cache is caught', async () => {
  expect(await straysSeen(() => race(scalableUnit, replaceAgain, { ...vtdOperations, flushPasid: () => {} }, 1000))).toBe(true);
});

/** Whether free threads met in the wrong order in one of several races: in a single one that is a matter of chance. */
async function straysSeen(once: () => Promise<{ readonly strays: number }>): Promise<boolean> {
  for (let tries = 0; tries < 12; tries++) if ((await once()).strays > 0) return true;
  return false;
}
