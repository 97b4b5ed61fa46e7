/**
 * `dmarena bench [name...]`, a program of its own: asks the questions named, or all, one after the other.
 *
 * Figures are for comparing: rows of one run with each other, or one row before and after a change on a quiet machine. Exit: 0
 * answered, 2 a name, an option or a baseline is wrong (one line, before anything is measured), 3 a question failed.
 */
import { InputError, unknownName } from '#src/input-error';
import { tuneJit } from '#src/jit';
import { parseArgs } from 'node:util';
import { ask } from './ask.ts';
import { questionNames } from './catalogue.ts';
import { machine, measuredRows, readBaseline, type BenchResult, type Measured } from './result.ts';
import { table } from './table.ts';

interface Request {
  readonly names: readonly string[];
  readonly tiny: boolean;
  readonly json: boolean;
  readonly threads: number;
  readonly seed: number;
  readonly baseline: BenchResult | null;
}

const usage = 'usage: bench [name...] [--json] [--baseline file] [--threads n] [--seed n] [--tiny]';
const mostThreads = 64;

function readRequest(args: readonly string[]): Request {
  const { values, positionals } = parse(args);
  const known = questionNames();
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw unknownName('bench', unknown, known);
  return {
    names: positionals.length === 0 ? known : positionals,
    tiny: values.tiny === true,
    json: values.json === true,
    threads: whole('--threads', values.threads ?? '2', 2, mostThreads),
    seed: whole('--seed', values.seed ?? '1', 1, 2 ** 32 - 1),
    baseline: values.baseline === undefined ? null : readBaseline(values.baseline),
  };
}

function parse(args: readonly string[]) {
  const flag = { type: 'boolean' } as const;
  const text = { type: 'string' } as const;
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options: { tiny: flag, json: flag, threads: text, seed: text, baseline: text } });
  } catch (error) {
    throw new InputError(`${(error as Error).message.split('. ')[0]}; ${usage}`);
  }
}

function whole(flag: string, text: string, least: number, greatest: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= greatest) return value;
  throw new InputError(`${flag} '${text}' is not a whole number from ${least} to ${greatest}; for example ${flag} ${least}`);
}

async function main(args: readonly string[]): Promise<number> {
  const benches: Measured[] = [];
  try {
    const { names, tiny, json, threads, seed, baseline } = readRequest(args);
    for (const name of names) {
      const answer = await ask({ name, tiny, threads, seed });
      const rows = measuredRows(answer, baseline);
      benches.push(...rows);
      if (!json) console.log(`${table(answer.asks, rows)}\n`);
    }
    const result: BenchResult = { machine: machine(), node: process.version, seed, threads, tiny, benches };
    if (json) console.log(JSON.stringify(result));
    return 0;
  } catch (error) {
    console.error(error instanceof InputError ? `bench: ${error.message}` : error);
    return error instanceof InputError ? 2 : 3;
  }
}

// What is measured is compiled as in a run.
tuneJit();
process.exitCode = await main(process.argv.slice(2));
