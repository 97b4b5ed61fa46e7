/**
 * `dmarena explore`: looks for a schedule that breaks an invariant, and tells its story.
 */
import type { Failure } from '../report/failure.ts';
import { writeReport } from '../report/write-report.ts';
import type { ExploreResult, FoundViolation } from '../results.ts';
import { formatSeconds } from '../duration.ts';
import type { Shard } from '../shard.ts';
import type { Terminal } from '../terminal.ts';
import { bounded, checkStrategy } from './named.ts';

export interface ExploreOptions {
  readonly scenario: string;
  readonly variant: string;
  /** Paths to files of invariants. */
  readonly invariants?: readonly string[];
  readonly seed: number;
  readonly vms: number | null;
  /** Whose unit; null: the scenario's own. */
  readonly iommu?: string | null;
  readonly strategy: string;
  /** Preemptions, with `icb`; null: the strategy's own bound. */
  readonly bound?: number | null;
  /** Null: the strategy's own end. */
  readonly schedules: number | null;
  readonly budgetMs: number | null;
  /** A share of the schedules, to be merged with the others'. */
  readonly shard?: Shard | null;
  /** Where to write a report, if anywhere. */
  readonly out: string | null;
}

/** What the composition adds to the answer for people; it is not part of the JSON. */
export type Told<R> = R & { readonly story: readonly string[]; readonly failure?: Failure | null };

/** 0 when nothing was found, 1 when a violation was. */
export async function explore(options: ExploreOptions, terminal: Terminal): Promise<number> {
  await checkStrategy(options.strategy);
  const strategy = bounded(options.strategy, options.bound ?? null);
  const explored = { ...(await exploreAloud({ ...options, strategy }, terminal)), strategy: options.strategy };
  const { story, failure = null, ...result } = explored;
  terminal.say(...summary(result, terminal), ...(story.length > 0 ? ['', ...story] : []));
  if (options.out !== null) terminal.say('', `written: ${writeReport(options.out, result, story, failure).join(', ')}`);
  terminal.answer(result);
  return result.violation === null ? 0 : 1;
}

/** Explores with a progress line. */
export async function exploreAloud(options: Omit<ExploreOptions, 'out'>, terminal: Terminal): Promise<Told<ExploreResult>> {
  const composition = await import('../explore.ts');
  const { scenario, variant, invariants = [], seed, strategy, schedules, budgetMs, vms, iommu = null, shard = null } = options;
  return composition.explore({
    scenario, variant, invariants, seed, strategy, schedules, budgetMs, vms, iommu, shard,
    onProgress: (done: number, perSecond: number) =>
      terminal.progress(`${scenario}, ${variant}: ${done} schedules, ${Math.round(perSecond)} a second`),
  });
}

/** What was explored and found, in three lines or four. */
export function summary(result: ExploreResult, terminal: Terminal): string[] {
  const { scenario, variant, strategy, seed, schedules, seconds, schedulesPerSecond, complete, violation } = result;
  const verdict =
    violation === null
      ? terminal.style('green', complete ? 'every schedule holds' : 'no violation found')
      : terminal.style('red', `violation ${violation.invariant}`);
  return [
    `${scenario}, ${variant}: ${verdict}`,
    `${schedules} schedules (${strategy}, seed ${seed}) in ${formatSeconds(seconds)}, ${Math.round(schedulesPerSecond)} a second${extent(result)}`,
    covered(result),
    ...(violation === null ? [] : [`shrunk to ${shrunkTo(violation)}`]),
  ];
}

/** `1 switch`, `3 steps of the actors' programs and 2 switches`. */
function shrunkTo({ switches, faults, programSteps }: FoundViolation): string {
  const inserted = faults === 0 ? '' : ` and ${faults} ${faults === 1 ? 'fault' : 'faults'}`;
  const schedule = `${switches} ${switches === 1 ? 'switch' : 'switches'}${inserted}`;
  return programSteps === null ? schedule : `${programSteps} ${programSteps === 1 ? 'step' : 'steps'} of the actors' programs and ${schedule}`;
}

/** How far an exhaustive strategy came. */
function extent({ complete, tooLong, bound, coverage }: ExploreResult): string {
  if (tooLong) return ': given up, a schedule is too long to try all';
  return complete ? `: all ${coverage.traceClasses} traces${bound === null ? '' : `, bound ${bound}`}` : '';
}

function covered({ coverage }: ExploreResult): string {
  const { handOffs, racingPairs, traceClasses, unseen, truncated } = coverage;
  const rest = unseen === null ? '' : ` (${Math.round(100 * unseen)} % of further schedules would be new)`;
  return `covered: ${truncated ? 'at least ' : ''}${traceClasses} traces${rest}, ${handOffs} hand-offs, ${racingPairs} racing pairs`;
}
