#!/usr/bin/env node
/**
 * The command line: reads the words, checks them, and calls one file of `commands/` a command.
 *
 * Exit 0: all held. 1: a violation was found, or a trace differs. 2: the command or its input is wrong. 3: it broke inside.
 * What is wrong is one line on stderr; `DMARENA_DEBUG=1` adds the stack of what broke inside.
 */
import { Command, CommanderError, Option } from 'commander';
import { bench } from './commands/bench.ts';
import { conform } from './commands/conform.ts';
import { explain as explainReach } from './commands/explain.ts';
import { explore } from './commands/explore.ts';
import { failNth } from './commands/fail-nth.ts';
import { list } from './commands/list.ts';
import { merge } from './commands/merge.ts';
import { correct } from './commands/named.ts';
import { replay } from './commands/replay.ts';
import { run } from './commands/run.ts';
import { tour } from './commands/tour.ts';
import { tryFormat } from './commands/try-format.ts';
import { walk } from './commands/walk.ts';
import { parseDuration } from './duration.ts';
import { tuneJit } from './jit.ts';
import { InputError } from './input-error.ts';
import { parseShard, type Shard } from './shard.ts';
import { Terminal } from './terminal.ts';

const exit = { held: 0, input: 2, broken: 3 } as const;
const defaultStrategy = 'portfolio';
/** A seed feeds a 32-bit generator that must not start at 0. */
const greatestSeed = 2 ** 32 - 1;

tuneJit();

let status: number = exit.held;

/** Runs a command's function with a terminal that knows whether `--json` was given. */
const action =
  <O extends object>(body: (options: O, terminal: Terminal) => Promise<number>) =>
  async (options: O & { json?: boolean }): Promise<void> => {
    status = await body(options, new Terminal(options.json === true));
  };

const whole = (flag: string, greatest: number) => (text: string): number => {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= 1 && value <= greatest) return value;
  throw new InputError(`${flag} '${text}' is not a whole number from 1 to ${greatest}; for example ${flag} 1`);
};
const duration = (flag: string) => (text: string): number => parseDuration(text, flag);

/** No preemption at all is a bound too. */
const bound = (text: string): number => (text === '0' ? 0 : whole('--bound', 99)(text));

const seed = ['--seed <n>', 'where all randomness comes from', whole('--seed', greatestSeed), 1] as const;
const variant = ['--variant <name|path>', 'the kernel, or one of its mistakes', correct] as const;
const invariants = [
  '--invariant <path>', 'a file of an invariant that must hold too (may be given again)',
  (path: string, others: readonly string[]): readonly string[] => [...others, path], [] as readonly string[],
] as const;
const iommu = ['--iommu <name>', 'whose unit: vtd-legacy, vtd-scalable, vtd-first-stage, amd, smmuv3, riscv, mock'] as const;
const strategy = ['--strategy <name>', 'who goes next', defaultStrategy] as const;
const json = ['--json', 'one JSON object on stdout; text goes to stderr'] as const;
const count = Number.MAX_SAFE_INTEGER;
/** An event names its actor in 8 bits, and a VM has three. */
const mostVms = 84;
const mostHosts = 16;

function program(): Command {
  const root = new Command('dmarena').description('An arena for DMA: race Linux iommufd and IOMMU hardware on real threads.');
  root.exitOverride().configureOutput({ writeErr: () => undefined, outputError: () => undefined });
  addTour(root);
  root.command('list').description('what there is to run').option(...json).action(action(list));
  addRun(root);
  addExplore(root);
  addReplay(root);
  root
    .command('merge')
    .description('unite the results of all shards of an exploration')
    .argument('<results...>', 'files that explore --shard --json printed')
    .option(...json)
    .action((paths: string[], options: { json?: boolean }) => action(merge)({ paths, ...options }));
  root
    .command('conform')
    .description('play recordings of a real kernel to the model')
    .argument('<path...>', 'recordings (.jsonl), or folders of them')
    .option(...json)
    .action((paths: string[], options: { json?: boolean }) => action(conform)({ paths, ...options }));
  addFailNth(root);
  addWalk(root);
  addExplain(root);
  addTryFormat(root);
  addBench(root);
  return root;
}

function addTour(root: Command): void {
  root
    .command('tour')
    .description('one race from found to fixed, in a minute')
    .option(...seed)
    .option(...strategy)
    .option('--duration <time>', 'how long the free run lasts', duration('--duration'), 4_000)
    .option('--out <dir>', 'where the report goes', 'dmarena-report')
    .option(...json)
    .action((options: { seed: number; strategy: string; duration: number; out: string; json?: boolean }) =>
      action(tour)({ ...options, durationMs: options.duration }),
    );
}

function addRun(root: Command): void {
  root
    .command('run')
    .description('run a scenario freely, every actor on a thread of its own')
    .argument('<scenario>', 'a name (see list), or a path')
    .option(...variant)
    .option(...seed)
    .option('--duration <time>', '500ms, 10s, 2m', duration('--duration'), 10_000)
    .option('--vms <n>', 'how many VMs, where the scenario has such a number', whole('--vms', mostVms))
    .option(...iommu)
    .option(...invariants)
    .option('--hosts <n>', 'how many hosts, side by side in one run', whole('--hosts', mostHosts), 1)
    .option(...json)
    .action((scenario: string, options: RunFlags) =>
      action(run)({ ...options, invariants: options.invariant, scenario, durationMs: options.duration, vms: options.vms ?? null }),
    );
}

interface RunFlags {
  variant: string;
  invariant: readonly string[];
  seed: number;
  duration: number;
  vms?: number;
  iommu?: string;
  hosts: number;
  json?: boolean;
}

interface ExploreFlags {
  variant: string;
  invariant: readonly string[];
  seed: number;
  strategy: string;
  bound?: number;
  schedules?: number;
  budget?: number;
  vms?: number;
  iommu?: string;
  shard?: Shard;
  out?: string;
  json?: boolean;
}

function addExplore(root: Command): void {
  root
    .command('explore')
    .description('look for a schedule that breaks an invariant')
    .argument('<scenario>', 'a name (see list), or a path')
    .option(...variant)
    .option(...seed)
    .option(...strategy)
    .option('--bound <n>', 'preemptions of a schedule, with --strategy icb', bound)
    .option('--schedules <n>', 'stop after so many schedules', whole('--schedules', count))
    .option('--budget <time>', 'stop after so long: 30s, 2m', duration('--budget'))
    .option('--vms <n>', 'how many VMs, where the scenario has such a number', whole('--vms', mostVms))
    .option(...iommu)
    .option('--shard <i/n>', 'only the i-th of n shares of the schedules: see merge', parseShard)
    .option(...invariants)
    .option('--out <dir>', 'write a report')
    .option(...json)
    .action((scenario: string, { schedules, budget, bound: most, vms, out, invariant, ...flags }: ExploreFlags) =>
      action(explore)({ ...flags, invariants: invariant, scenario, bound: most ?? null, schedules: schedules ?? null, budgetMs: budget ?? null, vms: vms ?? null, out: out ?? null }),
    );
}

function addReplay(root: Command): void {
  root
    .command('replay')
    .description('run the schedule of a token again, exactly')
    .argument('[token]', 'as explore printed it')
    .option('--times <n>', 'how often', whole('--times', count), 1)
    .option('--scenario <path>', 'the file of a scenario from outside')
    .option('--variant <path>', 'the file of a variant from outside')
    .option(...invariants)
    .option('--out <dir>', 'write a report')
    .option(...json)
    .action((token: string | undefined, { out, invariant, ...flags }: ReplayFlags) =>
      action(replay)({ ...flags, token, invariants: invariant, out: out ?? null }),
    );
}

interface ReplayFlags {
  times: number;
  scenario?: string;
  variant?: string;
  invariant: readonly string[];
  out?: string;
  json?: boolean;
}

function addFailNth(root: Command): void {
  root
    .command('fail-nth')
    .description('let every allocation, pin and copy of a call fail in turn: nothing may be left behind')
    .argument('[sequence...]', 'names of call sequences; all by default')
    .addOption(new Option('--fail-nth <n|all>', 'which of the things that can fail').argParser(nthOrAll).default(null, 'all'))
    .option('--as-in-72', 'leave in what Linux 7.2 is known to do wrong')
    .option(...json)
    .action((names: string[], options: { failNth: number | null; asIn72?: boolean; json?: boolean }) =>
      action(failNth)({ ...options, names, nth: options.failNth, asIn72: options.asIn72 === true }),
    );
}

const nthOrAll = (text: string): number | null => (text === 'all' ? null : whole('--fail-nth', count)(text));

function addWalk(root: Command): void {
  root
    .command('walk')
    .description('walk the tables of cases on stdin, one a line, as the hardware does')
    .requiredOption('--format <name>', 'whose tables: riscv')
    .option('--json', 'one JSON object a line on stdout')
    .action(action(walk));
}

function addExplain(root: Command): void {
  root
    .command('explain')
    .description('why a device reaches an address, or where that ends')
    .argument('<state>', "a scenario (its world as it is built), or a token (the host as its schedule leaves it)")
    .requiredOption('--device <name>', 'the function, by its name in the world')
    .option('--pasid <n>', 'for requests with a PASID', whole('--pasid', 2 ** 20 - 1))
    .requiredOption('--iova <address>', 'hexadecimal with 0x, or decimal')
    .option(...iommu)
    .option('--scenario <path>', 'with a token: the file of a scenario from outside')
    .option('--variant <path>', 'with a token: the file of a variant from outside')
    .option(...invariants)
    .option(...json)
    .action((state: string, { pasid, iommu: unit, invariant, ...flags }: ExplainFlags) =>
      action(explainReach)({ ...flags, state, pasid: pasid ?? null, iommu: unit ?? null, invariants: invariant }),
    );
}

interface ExplainFlags {
  device: string;
  pasid?: number;
  iova: string;
  iommu?: string;
  scenario?: string;
  variant?: string;
  invariant: readonly string[];
  json?: boolean;
}

function addTryFormat(root: Command): void {
  root
    .command('try-format')
    .description('hold a page-table format against what a page table is')
    .argument('<format>', 'a name (see list), or a path')
    .option(...seed)
    .option(...json)
    .action((format: string, options: { seed: number; json?: boolean }) => action(tryFormat)({ ...options, format }));
}

/** Its words are read by the benches themselves; here they are only told of. */
function addBench(root: Command): void {
  root
    .command('bench')
    .description('measure: all questions, or those named')
    .argument('[name...]', 'questions (bench/questions)')
    .option(...json)
    .option('--baseline <file>', 'an earlier answer with --json, to be held against')
    .option('--threads <n>', 'how many threads, where a question is about threads')
    .option('--seed <n>', 'where all randomness comes from')
    .option('--tiny', 'as little work as reaches all of it: no figures')
    .action(async (names: string[], { json: asJson, tiny, ...values }: BenchFlags) => {
      const flags = [...(asJson === true ? ['--json'] : []), ...(tiny === true ? ['--tiny'] : [])];
      status = await bench([...names, ...flags, ...Object.entries(values).flatMap(([name, value]) => [`--${name}`, value])]);
    });
}

interface BenchFlags {
  json?: boolean;
  tiny?: boolean;
  baseline?: string;
  threads?: string;
  seed?: string;
}

/** The one line, and the exit status. */
function explain(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return exit.held;
    return complain(`${error.message.replace(/^error: /, '')}; see dmarena --help`, exit.input);
  }
  if (error instanceof InputError) return complain(error.message, exit.input);
  if (process.env['DMARENA_DEBUG'] === '1' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return complain(`it broke inside: ${describe(error)} (DMARENA_DEBUG=1 shows where)`, exit.broken);
}

function complain(message: string, code: number): number {
  process.stderr.write(`dmarena: ${message.trim().replaceAll(/\s*\n\s*/g, ' ')}\n`);
  return code;
}

/** The model's errno is a value with a name and a reason, not an `Error`. */
function describe(error: unknown): string {
  if (error instanceof Error) return error.message;
  if (typeof error !== 'object' || error === null) return String(error);
  const { name, reason } = error as { name?: unknown; reason?: unknown };
  return typeof name === 'string' ? `${name}: ${String(reason)}` : JSON.stringify(error);
}

/** Leaves once stdout has taken all: a pool that a failure left open must not keep the process. */
const leave = (code: number): void => void process.stdout.write('', () => process.exit(code));

// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? status : exit.broken));
process.on('uncaughtException', (error) => process.exit(explain(error)));

try {
  if (process.argv.length > 2) await program().parseAsync();
  else program().outputHelp();
  leave(status);
} catch (error) {
  leave(explain(error));
}
