/**
 * `dmarena try-format`: holds page-table formats against what a page table is, and shows the first difference.
 */
import type { TriedFormat, TryFormatResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';

export interface TryFormatOptions {
  /** A name, or a path. */
  readonly format: string;
  readonly seed: number;
}

/** 0 when all hold, 1 when one differs. */
export async function tryFormat({ format, seed }: TryFormatOptions, terminal: Terminal): Promise<number> {
  const { findFormats } = await import('../catalogue.ts');
  const trial = await import('../format-trial.ts');
  const formats = (await findFormats(format)).map((one) => trial.tryFormat(one, seed));
  const result: TryFormatResult = { seed, formats };
  terminal.say(...formats.flatMap((one) => report(one, terminal)));
  terminal.answer(result);
  return formats.every(({ difference }) => difference === null) ? 0 : 1;
}

function report({ format, levels, inputBits, operations, difference }: TriedFormat, terminal: Terminal): string[] {
  const size = `${format}, ${levels} levels, ${inputBits} bits`;
  if (difference === null) return [`${size}: ${terminal.style('green', `answered ${operations} maps, unmaps and walks as a page table does`)}`];
  const { steps, expected, got } = difference;
  return [`${size}: ${terminal.style('red', 'is no page table')}`, ...steps.map((step) => `  ${step}`), `    expected ${expected}`, `    got      ${got}`];
}
