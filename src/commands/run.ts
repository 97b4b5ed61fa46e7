/**
 * `dmarena run`: runs a scenario freely, every actor on a thread of its own, and judges it slice by slice.
 */
import { formatSeconds } from '../duration.ts';
import { wrap } from '../report/wrap.ts';
import type { Counts, RunResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';
import { fairness } from '../vm-shares.ts';

export interface RunOptions {
  readonly scenario: string;
  readonly variant: string;
  /** Paths to files of invariants. */
  readonly invariants?: readonly string[];
  readonly seed: number;
  readonly vms: number | null;
  /** Whose unit; null: the scenario's own. */
  readonly iommu?: string | null;
  readonly durationMs: number;
  readonly hosts?: number;
}

/** 0 when all held, 1 when a violation was seen. */
export async function run(options: RunOptions, terminal: Terminal): Promise<number> {
  const result = await runAloud(options, terminal);
  terminal.say(...summary(result, terminal), '', ...threads(result), ...shares(result), '', ...throughput(result));
  terminal.answer(result);
  return result.violation === null ? 0 : 1;
}

/** Runs with a progress line that shows the throughput since the line before. */
export async function runAloud(options: RunOptions, terminal: Terminal): Promise<RunResult> {
  const composition = await import('../run.ts');
  let before: Counts = { rounds: 0, translations: 0, dma: 0, maps: 0, unmaps: 0, replaces: 0, faults: 0 };
  let beforeMs = performance.now();
  return composition.run({
    scenario: options.scenario,
    variant: options.variant,
    invariants: options.invariants ?? [],
    seed: options.seed,
    durationMs: options.durationMs,
    vms: options.vms,
    iommu: options.iommu ?? null,
    hosts: options.hosts ?? 1,
    onProgress: (counts: Counts) => {
      const seconds = Math.max(0.001, (performance.now() - beforeMs) / 1000);
      terminal.progress(`a second: ${rates(counts, before, seconds)}`);
      before = counts;
      beforeMs = performance.now();
    },
  });
}

/** `41.2k translations, 20.1k dma, ...`: what came in between, a second. */
function rates(now: Counts, before: Counts, seconds: number): string {
  return kinds.map((kind) => `${short((now[kind] - before[kind]) / seconds)} ${kind}`).join(', ');
}

const kinds = ['translations', 'dma', 'maps', 'unmaps', 'replaces', 'faults'] as const;

/** Three digits and a unit: 941, 41.2k, 3.20M. */
function short(value: number): string {
  if (value < 1_000) return `${Math.round(value)}`;
  const [scaled, unit] = value < 1_000_000 ? [value / 1_000, 'k'] : [value / 1_000_000, 'M'];
  return `${scaled < 100 ? scaled.toPrecision(3) : Math.round(scaled)}${unit}`;
}

/** The verdict, and what broke. */
export function summary({ scenario, variant, seconds, violation }: RunResult, terminal: Terminal): string[] {
  const held = violation === null;
  const verdict = held ? terminal.style('green', 'all held') : terminal.style('red', `violation ${violation.invariant}`);
  const line = `${scenario}, ${variant}, free for ${formatSeconds(seconds)}: ${verdict}`;
  return held ? [line] : [line, ...wrap(`  ${violation.message}`, 80, '  ')];
}

/** Which actor ran on which thread. */
export function threads({ threads: actors }: RunResult): string[] {
  const width = Math.max(5, ...actors.map(({ actor }) => actor.length));
  return [
    `  ${'actor'.padEnd(width)}  role    thread`,
    ...actors.map(({ actor, role, threadId }) => `  ${actor.padEnd(width)}  ${role.padEnd(6)}  ${threadId}`),
  ];
}

/** What each VM did in a second, how evenly, and the memory it took; nothing where VMs are not numbered. */
export function shares({ vms, seconds, memory: { begin, end } }: RunResult): string[] {
  if (vms.length === 0) return [];
  const columns = ['rounds', 'dma', 'maps', 'replaces', 'faults'] as const;
  const width = Math.max(2, ...vms.map(({ vm }) => vm.length));
  const rounds = vms.map((one) => one.rounds);
  return [
    '',
    `  ${'VM'.padEnd(width)}  ${columns.map((name) => `${name}/s`.padStart(10)).join('  ')}`,
    ...vms.map((one) => `  ${one.vm.padEnd(width)}  ${columns.map((name) => short(one[name] / seconds).padStart(10)).join('  ')}`),
    '',
    `  fairness ${fairness(vms).toFixed(3)} (1 is even; rounds from ${Math.min(...rounds)} to ${Math.max(...rounds)})`,
    `  memory, begin and end: ${begin.residentMiB} and ${end.residentMiB} MiB resident, ${begin.frames} and ${end.frames} frames, ` +
      `${begin.objects} and ${end.objects} kernel objects`,
  ];
}

/** What was done, and how much of it a second. */
export function throughput({ counts, seconds }: RunResult): string[] {
  const line = (name: string, total: string, rate: string): string =>
    `  ${name.padEnd(12)}  ${total.padStart(12)}  ${rate.padStart(9)}`;
  return [
    line('', 'in all', 'a second'),
    ...kinds.map((kind) => line(kind, `${counts[kind]}`, short(counts[kind] / Math.max(0.001, seconds)))),
  ];
}
