/**
 * `dmarena conform`: plays recordings of a real Linux kernel to the model and prints the first difference of each.
 */
import { conform as conformTraces } from '../conform/conform.ts';
import type { ConformResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';

export interface ConformOptions {
  readonly paths: readonly string[];
}

/** 0 when nothing differs, 1 when a trace does. */
export async function conform({ paths }: ConformOptions, terminal: Terminal): Promise<number> {
  const result = await conformWith(paths);
  terminal.say(...report(result, terminal));
  terminal.answer(result);
  return result.failed.length === 0 ? 0 : 1;
}

export async function conformWith(paths: readonly string[]): Promise<ConformResult> {
  const { makePlayer } = await import('../conform/player.ts');
  return conformTraces(paths, makePlayer);
}

/** The count, then each difference: file, line, call, expected, got. */
export function report({ files, passed, failed, skipped }: ConformResult, terminal: Terminal): string[] {
  const verdict = `${passed} of ${files} recordings answered as the kernel did`;
  return [
    failed.length > 0 ? terminal.style('red', verdict) : skipped.length > 0 ? verdict : terminal.style('green', verdict),
    ...failed.flatMap(({ file, line, call, expected, got }) => [
      `  ${file}:${line}: ${call}`,
      `    expected ${expected}`,
      `    got      ${got}`,
    ]),
    ...skipped.map(({ file, why }) => `  not played: ${file} (${why})`),
  ];
}
