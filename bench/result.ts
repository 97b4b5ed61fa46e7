/** What a run of benches answers with `--json`, and what `--baseline` reads. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { InputError } from '#src/input-error';
import { z } from 'zod';
import type { Answer } from './question.ts';

const measured = z.object({
  /** The question, and the row of it. */
  name: z.string(),
  case: z.string(),
  unit: z.enum(['ns/op', 'op/s', 'ratio']),
  median: z.number().positive(),
  p10: z.number().positive(),
  p90: z.number().positive(),
  samples: z.number().int().positive(),
  checksum: z.number(),
  /** The row of the same question that this one was held against, and how many times its time this one took. */
  against: z.string().optional(),
  ratio: z.number().optional(),
  /** What it took of memory: resident, in MiB a thread. */
  mib: z.number().optional(),
  /** The median of the baseline, and how many times that this one is; not where the baseline did other work. */
  before: z.number().optional(),
  overBefore: z.number().optional(),
});
export type Measured = z.infer<typeof measured>;

const result = z.object({ machine: z.string(), node: z.string(), seed: z.number(), threads: z.number(), tiny: z.boolean(), benches: z.array(measured) });
export type BenchResult = z.infer<typeof result>;

export const machine = (): string => `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, ${process.platform} ${process.arch}`;

/** The rows of an answer, each beside its namesake of the baseline. */
export function measuredRows({ name, figures }: Answer, baseline: BenchResult | null): Measured[] {
  return figures.map(({ name: row, against, ratio, mib, ...figure }) => {
    const found: Measured = { name, case: row, ...figure, ...(against === null || ratio === null ? {} : { against, ratio }), ...(mib === null ? {} : { mib }) };
    const old = baseline?.benches.find((other) => other.name === name && other.case === row && other.unit === found.unit);
    if (old === undefined || old.checksum !== found.checksum) return found;
    return { ...found, before: old.median, overBefore: found.median / old.median };
  });
}

/** The result in a file that `--json` wrote. One line says what is wrong with any other. */
export function readBaseline(path: string): BenchResult {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new InputError(`--baseline ${path}: ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : 'it cannot be read'}`);
  }
  try {
    return result.parse(JSON.parse(text));
  } catch {
    throw new InputError(`--baseline ${path} is no answer of bench --json; write one with: dmarena bench --json > ${path}`);
  }
}
