/**
 * Exploration and replay: cells on every CPU share the schedules out, the failing schedule with the lowest number wins, so
 * that the result does not depend on how many cells there were. An exhaustive strategy, whose schedules follow from one
 * another, has one cell.
 */
import { choose, chooseAgain, replayFlags, sizeOf, sizeWord, tokenWords, type Choice, type Chosen, type TokenFiles } from './chosen.ts';
import { CellProcess, cellCpus } from './cell-process.ts';
import type { Explored, OpenRequest, ReplayRequest, ShrunkAnswer, Workload } from './cell-protocol.ts';
import { codeHash } from './code-hash.ts';
import { InputError } from './input-error.ts';
import type { Failure } from './report/failure.ts';
import { tellStory } from './report/story.ts';
import { isExhaustive, Strategies } from './schedule/strategy.ts';
import { sumUp } from './covered.ts';
import type { Coverage, ExploreResult, FoundViolation, ReplayResult, ShardResult } from './results.ts';
import { packCover, sharedOut, wholeRun, type Shard, type ShardPart } from './shard.ts';
import { firstAlternative, stepCapacity, type Switch } from './schedule/board.ts';
import { decodeToken, encodeToken, TokenError, type Token } from './schedule/token.ts';

export interface ExploreOptions extends Choice {
  readonly seed: number;
  readonly strategy: string;
  /** Null: `defaultSchedules`, or until the budget is used up. */
  readonly schedules: number | null;
  readonly budgetMs: number | null;
  /** Null: the scenario's own number. */
  readonly vms: number | null;
  /** Which of the schedules; all where it is left out. */
  readonly shard?: Shard | null;
  /** Where cells run, one on each; all that this process may use where it is left out. */
  readonly cpus?: readonly (number | null)[];
  onProgress?(schedules: number, perSecond: number): void;
}

export const defaultSchedules = 2_000;

interface Telling {
  readonly story: readonly string[];
  readonly failure: Failure | null;
}

/** Looks for a failing schedule; shrinks and tells it. Throws `InputError`. */
export async function explore(options: ExploreOptions): Promise<(ExploreResult | ShardResult) & Telling> {
  const chosen = await choose(options);
  const { scenario, variant } = chosen;
  const request = openRequest(chosen, options.seed, options.vms);
  const strategy = (await Strategies.load()).find(options.strategy);
  const endless = isExhaustive(strategy) || options.budgetMs !== null;
  const count = options.schedules ?? (endless ? 0x3fffffff : defaultSchedules);
  const shard = options.shard ?? wholeRun;
  checkShard(options, shard, count, isExhaustive(strategy));
  const progress: number[] = [];
  let begin = performance.now();
  const report = (cell: number) => (schedules: number) => {
    progress[cell] = schedules;
    const total = progress.reduce((sum, one) => sum + one, 0);
    options.onProgress?.(total, total / ((performance.now() - begin) / 1000));
  };
  const cpus = (options.cpus ?? cellCpus()).slice(0, isExhaustive(strategy) ? 1 : sharedOut(shard, count));
  const cells = await Promise.all(cpus.map((cpu, index) => CellProcess.open(cpu, request, report(index))));
  try {
    begin = performance.now();
    const answers = await share(cells, options, shard, count);
    const seconds = (performance.now() - begin) / 1000;
    const first = firstFailure(answers);
    // What cells had run beyond the first failure depends on their speed; which one it is does not.
    const done = answers.reduce((sum, { schedules: own }) => sum + own, 0);
    const schedules = first === null || isExhaustive(strategy) ? done : sharedOut(shard, first.answer.index + 1);
    const told = first === null ? null : await tell(cells[first.cell]!, chosen, options, first.answer);
    return {
      scenario: scenario.name,
      variant: variant.name,
      strategy: options.strategy,
      seed: options.seed,
      schedules,
      seconds,
      schedulesPerSecond: schedules / seconds,
      complete: answers.some(({ isComplete }) => isComplete),
      tooLong: answers.some(({ isTooLong }) => isTooLong),
      bound: isExhaustive(strategy) ? strategy.bound : null,
      coverage: coverageOf(answers, done, !isExhaustive(strategy)),
      violation: told?.violation ?? null,
      story: told?.story ?? [],
      failure: told?.failure ?? null,
      ...(options.shard ? { shard: partOf(chosen, options, options.shard, answers, first?.answer.index ?? null) } : {}),
    };
  } finally {
    for (const cell of cells) cell.close();
  }
}

function checkShard({ strategy }: ExploreOptions, { number, of }: Shard, count: number, isOneAfterTheOther: boolean): void {
  if (of === 1) return;
  if (isOneAfterTheOther) throw new InputError(`--shard is not for --strategy ${strategy}: its schedules follow from one another; take one that samples, as portfolio`);
  if (number > count) throw new InputError(`--shard ${number}/${of} is empty: there are only ${count} schedules; raise --schedules`);
}

/** What `merge` needs of a shard. */
function partOf(chosen: Chosen, { schedules, budgetMs, vms }: ExploreOptions, shard: Shard, answers: readonly Explored[], failedAt: number | null): ShardPart {
  const { scenario, variantTag } = tokenWords(chosen);
  return {
    ...shard,
    asked: schedules ?? (budgetMs === null ? defaultSchedules : null),
    vms,
    failedAt,
    code: codeHash(),
    subject: variantTag === null ? scenario : `${scenario}~${variantTag}`,
    cover: packCover(answers.map(({ cover }) => cover)),
  };
}

/** Cell `k` of `n` runs schedules k, k + n, ... of the shard; the first failure lowers everybody's end. */
async function share(cells: readonly CellProcess[], { strategy, seed, budgetMs }: ExploreOptions, shard: Shard, count: number): Promise<Explored[]> {
  const stride = cells.length * shard.of;
  const timer = budgetMs === null ? null : setTimeout(() => cells.forEach((cell) => cell.stopBefore(0)), budgetMs);
  try {
    return await Promise.all(
      cells.map(async (cell, index) => {
        const first = index * shard.of + shard.number - 1;
        const own = Math.ceil((count - first) / stride);
        const answer = await cell.explore({ strategy, seed, first, stride, count: own });
        if (answer.violation !== null) for (const other of cells) if (other !== cell) other.stopBefore(answer.index);
        return answer;
      }),
    );
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
}

/** Where schedules are no sample, nothing follows from them for further ones. */
function coverageOf(answers: readonly Explored[], schedules: number, isSample: boolean): Coverage {
  const coverage = sumUp(answers.map(({ cover }) => cover), schedules, answers.some(({ isCoverTruncated }) => isCoverTruncated));
  return isSample ? coverage : { ...coverage, unseen: null };
}

function firstFailure(answers: readonly Explored[]): { cell: number; answer: Explored } | null {
  let best: { cell: number; answer: Explored } | null = null;
  answers.forEach((answer, cell) => {
    if (answer.violation !== null && (best === null || answer.index < best.answer.index)) best = { cell, answer };
  });
  return best;
}

async function tell(cell: CellProcess, chosen: Chosen, { seed, vms }: ExploreOptions, found: Explored): Promise<Telling & { violation: FoundViolation }> {
  const { invariant, message } = found.violation!;
  if (found.switches === null) throw new Error(`schedule ${found.index} breaks ${invariant} (${message}), but has too many switches to be kept`);
  const { program, switches, steps: length, scene } = found;
  const shrunk = await cell.shrink({ switches, steps: length, program, seed, scene, invariant });
  const token = encodeToken({
    ...tokenWords(chosen),
    codeHash: codeHash(),
    seed: seed,
    parameters: parametersOf(sizeWord(vms, chosen.iommu), shrunk),
    switches: shrunk.switches,
  });
  const { failure, steps } = await cell.tell({ switches: shrunk.switches, workload: shrunk.workload, token });
  const violation = { invariant, message: failure?.violation.message ?? message, token, ...counted(shrunk.switches), programSteps: shrunk.programSteps, shrunk: shrunk.effort, steps };
  return { violation, failure, story: failure === null ? [] : tellStory(failure) };
}

function counted(switches: readonly Switch[]): { switches: number; faults: number } {
  const faults = switches.filter(({ next }) => next >= firstAlternative).length;
  return { switches: switches.length - faults, faults };
}

/** The numbers of a token: its size word, then of programs their number and the steps that are run, each less the one before. */
function parametersOf(size: number, { workload: { program, leftOut }, programSteps }: ShrunkAnswer): number[] {
  if (programSteps === null) return size === 0 ? [] : [size];
  const kept = Array.from({ length: programSteps + leftOut.length }, (_, step) => step).filter((step) => !leftOut.includes(step));
  return [size, program, ...kept.map((step, index) => step - (kept[index - 1] ?? 0))];
}

/** Steps beyond those that are run are left out, however many there are. */
function workloadOf({ parameters: [, program, ...gaps] }: Token): Workload {
  if (program === undefined) return { program: 0, leftOut: [] };
  const kept = new Set<number>();
  let step = 0;
  for (const gap of gaps) kept.add((step += gap));
  return { program, leftOut: Array.from({ length: stepCapacity }, (_, one) => one).filter((one) => !kept.has(one)) };
}

interface ReplayOptions extends TokenFiles {
  readonly token: string;
  readonly times: number;
  /** Where its cell runs; the first that this process may use where it is left out. */
  readonly cpu?: number | null;
}

/**
 * Replays a token. Throws `InputError` for what is no token, or one of a scenario or variant that does not exist, or that
 * needs a file which was not given.
 */
export async function replay({ token: text, times, cpu = cellCpus()[0]!, ...files }: ReplayOptions): Promise<ReplayResult & Telling & { note: string | null }> {
  const token = parse(text);
  const chosen = await chooseAgain(token, files);
  const cell = await CellProcess.open(cpu, openRequest(chosen, token.seed, sizeOf(token).vms), () => {});
  try {
    const { hashes, times: done, violation } = await cell.replay({ switches: token.switches, times, workload: workloadOf(token) });
    const { failure } = await cell.tell({ switches: token.switches, workload: workloadOf(token), token: text });
    const note = whatChanged(token, chosen.changed);
    return { token: text, times: done, hashes, violation, failure, note, story: failure === null ? [] : tellStory(failure) };
  } finally {
    cell.close();
  }
}

export type ReplayFiles = TokenFiles;

/** What a cell is asked to open for a token, and its schedule. Throws `InputError` as `replay`. */
export async function openToken(text: string, files: TokenFiles): Promise<{ request: Omit<OpenRequest, 'kind'>; order: Pick<ReplayRequest, 'switches' | 'workload'> }> {
  const token = parse(text);
  const chosen = await chooseAgain(token, files);
  return { request: openRequest(chosen, token.seed, sizeOf(token).vms), order: { switches: token.switches, workload: workloadOf(token) } };
}

/** What to know before believing a replay, if anything. */
function whatChanged(token: Token, files: readonly string[]): string | null {
  const skipped = 'switches that no longer apply were skipped';
  if (token.codeHash !== codeHash()) return `the token is from other code: ${skipped}`;
  return files.length === 0 ? null : `not as it was when the token was made: ${files.join(', ')}; ${skipped}`;
}

function openRequest(chosen: Chosen, seed: number, vms: number | null): Omit<OpenRequest, 'kind'> {
  const { scenario, variant, holds, iommu } = chosen;
  return {
    scenario: { name: scenario.name, url: scenario.url },
    variant: { name: variant.name, url: variant.url },
    holds,
    seed,
    vms,
    iommu,
    replayFlags: replayFlags(chosen),
  };
}

function parse(text: string): Token {
  try {
    return decodeToken(text);
  } catch (error) {
    if (error instanceof TokenError) throw new InputError(error.message);
    throw error;
  }
}
