/**
 * `dmarena tour`, which is `npm start`: one race from found to fixed, then the same model against a real kernel.
 */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeReport } from '../report/write-report.ts';
import type { ConformResult, ExploreResult, ReplayResult, RunResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';
import { conformWith, report as conformReport } from './conform.ts';
import { exploreAloud, summary as exploreSummary, type Told } from './explore.ts';
import { checkStrategy, correct } from './named.ts';
import { replayOf, summary as replaySummary } from './replay.ts';
import { runAloud, summary as runSummary, threads, throughput } from './run.ts';

export interface TourOptions {
  readonly seed: number;
  readonly strategy: string;
  /** How long the free run lasts. */
  readonly durationMs: number;
  readonly out: string;
}

const scenario = 'group-replace';
const mistaken = 'replace-unlocked';
const replays = 100;
const recordings = ['vfio_group.mf.attach_both.jsonl', 'vfio_group.mf.replace_moves_group.jsonl'];

/** 0 when the planted mistake was caught and all else held. */
export async function tour(options: TourOptions, terminal: Terminal): Promise<number> {
  await checkStrategy(options.strategy);
  terminal.say(
    'DMArena: VMs, devices and a vIOMMU, each a thread of its own, share the memory',
    'of one host. Here two devices of one IOMMU group are moved between address',
    'spaces at the same time, while both do DMA. First with a mistaken kernel.',
  );
  const found = await findMistake(options, terminal);
  const replayed = await replayIt(found, terminal);
  const held = await exploreCorrect(options, terminal);
  const free = await runFree(options, terminal);
  const conformed = await playRecordings(terminal);
  const { story, failure = null, ...explored } = found;
  const result = { explore: explored, replay: replayed, correct: held, run: free, conform: conformed };
  const files = writeReport(options.out, result, story, failure);
  next(found, files, terminal);
  terminal.answer(result);
  return held.violation === null && free.violation === null && conformed.failed.length === 0 ? 0 : 1;
}

async function findMistake({ seed, strategy }: TourOptions, terminal: Terminal): Promise<Told<ExploreResult>> {
  terminal.heading(`1. Explore ${scenario} with the kernel variant ${mistaken}`);
  const options = { scenario, variant: mistaken, seed, strategy, schedules: 1_000, budgetMs: null, vms: null };
  const found = await exploreAloud(options, terminal);
  terminal.say(...exploreSummary(found, terminal), '', ...found.story);
  if (found.violation === null) throw new Error(`the mistake '${mistaken}' was not found in ${found.schedules} schedules`);
  return found;
}

async function replayIt({ violation }: ExploreResult, terminal: Terminal): Promise<ReplayResult> {
  terminal.heading(`2. Replay that schedule ${replays} times`);
  const { story: _, failure: __, note: ___, ...replayed } = await replayOf(violation!.token, replays);
  terminal.say(...replaySummary(replayed, terminal));
  if (replayed.hashes.length !== 1) throw new Error(`${replays} replays gave ${replayed.hashes.length} hashes`);
  return replayed;
}

async function exploreCorrect({ seed, strategy }: TourOptions, terminal: Terminal): Promise<ExploreResult> {
  terminal.heading('3. Explore the correct kernel');
  const options = { scenario, variant: correct, seed, strategy, schedules: 2_000, budgetMs: null, vms: null };
  const { story, failure: _, ...held } = await exploreAloud(options, terminal);
  terminal.say(...exploreSummary(held, terminal), ...story);
  return held;
}

async function runFree({ seed, durationMs }: TourOptions, terminal: Terminal): Promise<RunResult> {
  terminal.heading('4. Run the correct kernel freely, all threads at once');
  const free = await runAloud({ scenario, variant: correct, seed, durationMs, vms: null }, terminal);
  terminal.say(...runSummary(free, terminal), '', ...threads(free), '', ...throughput(free));
  return free;
}

async function playRecordings(terminal: Terminal): Promise<ConformResult> {
  terminal.heading('5. Ask the model what Linux 7.2 was asked, on real devices in one group');
  const folder = relative('', fileURLToPath(new URL('../../../test/traces', import.meta.url)));
  const paths = recordings.map((name) => join(folder, name)).filter((path) => existsSync(path));
  if (paths.length === 0) {
    terminal.say('The recordings are in the repository, not in the package: skipped.');
    return { files: 0, passed: 0, failed: [], skipped: [] };
  }
  const conformed = await conformWith(paths);
  terminal.say(...conformReport(conformed, terminal));
  return conformed;
}

function next({ violation }: ExploreResult, files: readonly string[], terminal: Terminal): void {
  terminal.heading('Written');
  terminal.say(...files.map((file) => `  ${file}`), '  (report.html opens in any browser, trace.json in https://ui.perfetto.dev)');
  terminal.heading('Try next');
  terminal.say(
    '  dmarena list                                      what there is to run',
    `  dmarena explore ${scenario} --variant replace-v2  a mistake without a race`,
    `  dmarena run ${scenario} --duration 60s            a minute of stress`,
    `  dmarena replay ${violation!.token} --times 1000`,
    '',
    "  In a clone, dmarena is 'node dist/src/cli.js'.",
  );
}
