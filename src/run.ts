/**
 * Free runs: every actor on its own thread, nothing between them but the memory that they share, judged in slices.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Counters } from './actors/counters.ts';
import { Pace } from './actors/pace.ts';
import { Arena } from './arena.ts';
import { choose, type Choice } from './chosen.ts';
import type { Counts, RunResult } from './results.ts';
import type { ActorReport } from './task.ts';

export interface RunOptions extends Choice {
  readonly seed: number;
  readonly durationMs: number;
  onProgress?(counts: Counts): void;
}

/** Events that the rings hold together; a slice ends when one ring is half full. */
const sliceEvents = 1 << 17;
const smallestRing = 1 << 11;
/** Without a round or a DMA for this long, the run hangs. */
const stallMs = 15_000;
const progressMs = 250;

/** Runs for `durationMs`, or until something breaks. Throws `InputError`. */
export async function run(options: RunOptions): Promise<RunResult> {
  const { scenario, variant, holds } = await choose(options);
  const rings = Object.keys(scenario.value.actors).length;
  const capacity = Math.max(smallestRing, Math.floor(sliceEvents / rings));
  const arena = new Arena({ scenario, variant, holds, seed: options.seed, rings, capacity });
  const pace = Pace.createBuffer();
  try {
    const ended = arena.start({ pace });
    const begin = performance.now();
    const hang = await watch(arena, pace, ended, options);
    const reports = hang === null ? await ended : [];
    const seconds = (performance.now() - begin) / 1000;
    const broken = reports.find(({ violation }) => violation !== null)?.violation ?? null;
    return {
      scenario: scenario.name,
      variant: variant.name,
      seconds,
      threads: reports.map(({ actor, role, threadId }) => ({ actor, role, threadId })),
      counts: countsOf(arena),
      violation: hang ?? broken,
    };
  } finally {
    await arena.destroy();
  }
}

/** Reports progress until the time is up or all have ended; stops the run; a hang comes back as a violation. */
async function watch(arena: Arena, pace: SharedArrayBuffer, ended: Promise<ActorReport[]>, options: RunOptions): Promise<RunResult['violation']> {
  let over = false;
  const settled = ended.then(() => void (over = true), () => void (over = true));
  const deadline = performance.now() + options.durationMs;
  let moved = performance.now();
  let before = '';
  while (!over) {
    const left = deadline - performance.now();
    if (left <= 0) Pace.stop(pace);
    await Promise.race([sleep(left > 0 ? Math.min(left, progressMs) : 50), settled]);
    const counts = Counters.total(arena.counters, arena.names.length);
    const now = `${counts.rounds}.${counts.translations}`;
    if (now !== before) moved = performance.now();
    before = now;
    if (left > 0) options.onProgress?.(countsOf(arena));
    if (!over && performance.now() - moved > stallMs) {
      return { invariant: 'DEADLOCK', message: `no actor has finished a round or a DMA for ${stallMs / 1000} s` };
    }
  }
  return null;
}

function countsOf(arena: Arena): Counts {
  const { translations, dma, maps, unmaps, replaces, faults } = Counters.total(arena.counters, arena.names.length);
  return { translations, dma, maps, unmaps, replaces, faults };
}
