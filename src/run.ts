/**
 * Free runs: every actor on its own thread, nothing between them but the memory that they share, judged in slices.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { liveObjects } from '#hostmem/object';
import { Counters, type Counts as ActorCounts } from './actors/counters.ts';
import { Pace } from './actors/pace.ts';
import { Arena } from './arena.ts';
import { choose, type Choice, type Chosen } from './chosen.ts';
import type { Counts, MemoryUse, RunResult } from './results.ts';
import { actorsOf, parametersOf } from './scenario.ts';
import { Stillness } from './schedule/stillness.ts';
import type { ActorReport } from './task.ts';
import { sharesOf } from './vm-shares.ts';

export interface RunOptions extends Choice {
  readonly seed: number;
  readonly durationMs: number;
  /** Null: the scenario's own number. */
  readonly vms: number | null;
  /** Hosts beside each other in this run, 1 if not given. */
  readonly hosts?: number;
  onProgress?(counts: Counts): void;
}

/** Events that the rings hold together; a slice ends when one ring is half full. */
const sliceEvents = 1 << 17;
const smallestRing = 1 << 11;
/** Without a round or a DMA for this long, the run hangs; before the first, threads and compilers are still starting. */
const stallMs = 20_000;
const startMs = 180_000;
const progressMs = 250;

/** Runs for `durationMs` from the moment that all threads are up, or until something breaks. Throws `InputError`. */
export async function run(options: RunOptions): Promise<RunResult> {
  const chosen = await choose(options);
  const { scenario, variant } = chosen;
  const hosts = Array.from({ length: options.hosts ?? 1 }, (_, host) => new FreeRun(chosen, options, options.seed + host));
  try {
    for (const host of hosts) host.start();
    const { hang, memory, workBegin } = await watch(hosts, options);
    const reports = hang === null ? await Promise.all(hosts.map((host) => host.ended!)) : hosts.map(() => []);
    const seconds = (performance.now() - workBegin) / 1000;
    const names = hosts.map((host) => host.arena.names);
    return {
      scenario: scenario.name,
      variant: variant.name,
      seconds,
      threads: reports.flatMap((one, host) => one.map(({ actor, role, threadId }) => ({ actor: nameAt(host, hosts.length, actor), role, threadId }))),
      counts: total(hosts),
      vms: hosts.flatMap((host, index) => sharesOf(names[index]!, host.arena.counters).map((share) => ({ ...share, vm: nameAt(index, hosts.length, share.vm) }))),
      memory: { begin: memory, end: memoryUse(hosts) },
      violation: hang ?? reports.flat().find(({ violation }) => violation !== null)?.violation ?? null,
    };
  } finally {
    await Promise.all(hosts.map((host) => host.arena.destroy()));
  }
}

/** Actors of several hosts are told apart by their host's number. */
const nameAt = (host: number, hosts: number, name: string): string => (hosts === 1 ? name : `host${host}/${name}`);

/** One host and its actors. */
class FreeRun {
  readonly arena: Arena;
  readonly pace: SharedArrayBuffer;
  ended: Promise<ActorReport[]> | null = null;

  constructor({ scenario, variant, iommu, holds }: Chosen, options: RunOptions, seed: number) {
    const parameters = parametersOf(scenario.value, options.vms, iommu);
    const rings = Object.keys(actorsOf(scenario.value, parameters)).length;
    const capacity = Math.max(smallestRing, Math.floor(sliceEvents / rings));
    this.arena = new Arena({ scenario, variant, holds, seed, parameters, rings, capacity });
    this.pace = Pace.createBuffer(rings);
  }

  start(): void {
    this.ended = this.arena.start({ pace: this.pace });
  }

  get counts(): ActorCounts {
    return Counters.total(this.arena.counters, this.arena.names.length);
  }
}

/** Reports progress until the time is up or all have ended; stops the run; a hang comes back as a violation. */
async function watch(hosts: readonly FreeRun[], options: RunOptions): Promise<{ hang: RunResult['violation']; memory: MemoryUse; workBegin: number }> {
  let memory: MemoryUse | null = null;
  let workBegin = performance.now();
  let over = false;
  const settled = Promise.race(hosts.map((host) => host.ended!)).then(() => undefined, () => undefined);
  const all = Promise.allSettled(hosts.map((host) => host.ended!)).then(() => void (over = true));
  // One host that broke ends the others.
  void settled.then(() => hosts.forEach(({ pace }) => Pace.stop(pace)));
  let deadline = performance.now() + options.durationMs;
  const stillness = new Stillness();
  while (!over) {
    const left = deadline - performance.now();
    if (left <= 0) for (const { pace } of hosts) Pace.stop(pace);
    await Promise.race([sleep(left > 0 ? Math.min(left, progressMs) : 50), all]);
    const stillMs = stillness.look(hosts.map(({ counts }) => `${counts.rounds}.${counts.translations}`).join(' '), performance.now());
    const isStarting = hosts.some(({ counts }) => counts.rounds === 0);
    // Time runs from the first work on: starting hundreds of threads takes seconds.
    if (isStarting && left > 0) deadline = performance.now() + options.durationMs;
    if (left > 0) options.onProgress?.(total(hosts));
    if (isStarting) workBegin = performance.now();
    else memory ??= memoryUse(hosts);
    const limit = isStarting ? startMs : stallMs;
    if (!over && stillMs > limit) {
      const hang = { invariant: 'DEADLOCK', message: `no actor has finished a round or a DMA for ${limit / 1000} s` };
      return { hang, memory: memory ?? memoryUse(hosts), workBegin };
    }
  }
  return { hang: null, memory: memory ?? memoryUse(hosts), workBegin };
}

const memoryUse = (hosts: readonly FreeRun[]): MemoryUse => ({
  residentMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  frames: hosts.reduce((sum, { arena }) => sum + arena.world.host.frames.inUse, 0),
  objects: hosts.reduce((sum, { arena }) => sum + liveObjects(arena.world.host.kernel), 0),
});

function total(hosts: readonly FreeRun[]): Counts {
  const sum = { rounds: 0, translations: 0, dma: 0, maps: 0, unmaps: 0, replaces: 0, faults: 0 };
  for (const { counts } of hosts) for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name];
  return sum;
}
