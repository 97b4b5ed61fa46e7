/**
 * `dmarena fail-nth`: lets every allocation, pin and copy of a call fail in turn, and tells what it left behind.
 */
import type { FailNthResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';

export interface FailNthOptions {
  readonly names: readonly string[];
  readonly nth: number | null;
  readonly asIn72: boolean;
}

/** 0 when a failed call never left anything behind, 1 when one did. */
export async function failNth(options: FailNthOptions, terminal: Terminal): Promise<number> {
  const composition = await import('../fail-nth/fail-nth.ts');
  const result = await composition.failNth(options);
  terminal.say(...report(result, terminal));
  terminal.answer(result);
  return result.sequences.every(({ problems }) => problems.length === 0) ? 0 : 1;
}

/** The verdict, then each failure that left something: the call, what was refused, what was found. */
function report({ sequences }: FailNthResult, terminal: Terminal): string[] {
  const points = sequences.reduce((sum, one) => sum + one.points, 0);
  const broken = sequences.filter(({ problems }) => problems.length > 0);
  const verdict = `${sequences.length} call sequences, ${points} failures: ${broken.length === 0 ? 'nothing is left behind' : `${broken.length} leave something behind`}`;
  return [
    terminal.style(broken.length === 0 ? 'green' : 'red', verdict),
    ...broken.flatMap(({ name, problems }) => [`  ${name}`, ...problems.map(({ nth, refused, message }) => `    ${nth}, ${refused}: ${message}`)]),
  ];
}
