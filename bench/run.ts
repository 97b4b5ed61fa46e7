/**
 * `node dist/bench/run.js [name...] [--tiny] [--json]`: asks the questions named, or all, one after the other.
 *
 * Figures are for comparing: rows of one run with each other, or one row before and after a change on a quiet machine. Exit: 0
 * answered, 2 a name or an option is wrong (one line), 3 a question failed.
 */
import { InputError, unknownName } from '#src/input-error';
import { parseArgs } from 'node:util';
import { ask } from './ask.ts';
import { questionNames } from './catalogue.ts';
import type { Answer } from './question.ts';
import { table } from './table.ts';

interface Request {
  readonly names: readonly string[];
  readonly tiny: boolean;
  readonly json: boolean;
}

function readRequest(args: readonly string[]): Request {
  const { values, positionals } = parse(args);
  const known = questionNames();
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw unknownName('bench', unknown, known);
  return { names: positionals.length === 0 ? known : positionals, tiny: values.tiny === true, json: values.json === true };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options: { tiny: { type: 'boolean' }, json: { type: 'boolean' } } });
  } catch (error) {
    throw new InputError(`${(error as Error).message.split('. ')[0]}; usage: bench [name...] [--tiny] [--json]`);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const answers: Answer[] = [];
  try {
    const { names, tiny, json } = readRequest(args);
    for (const name of names) {
      const answer = await ask({ name, tiny });
      answers.push(answer);
      if (!json) console.log(`${table(answer)}\n`);
    }
    if (json) console.log(JSON.stringify({ node: process.version, tiny, answers }));
    return 0;
  } catch (error) {
    console.error(error instanceof InputError ? `bench: ${error.message}` : error);
    return error instanceof InputError ? 2 : 3;
  }
}

process.exitCode = await main(process.argv.slice(2));
