/**
 * Whether what the command line names is there: a scenario, a variant, a strategy, by name or as a path to a file.
 */
import { existsSync } from 'node:fs';
import { InputError, unknownName } from '../input-error.ts';
import type { ListResult } from '../results.ts';

/** The kernel without a mistake: not listed among the variants, always there. */
export const correct = 'correct';

export interface Named {
  readonly scenario: string;
  readonly variant: string;
  readonly strategy?: string;
}

/** Throws `InputError` for the first name that is not known. */
export async function checkNames(named: Named): Promise<void> {
  const { catalogue } = await import('../catalogue.ts');
  const list: ListResult = await catalogue();
  check('scenario', named.scenario, list.scenarios.map((scenario) => scenario.name));
  // Of a scenario in a file outside the repository, the variants are not listed.
  const listed = list.scenarios.filter((scenario) => scenario.name === named.scenario || isPath(named.scenario));
  const variants = new Set(listed.flatMap((scenario) => scenario.variants.map((variant) => variant.name)));
  check('variant', named.variant, [correct, ...variants]);
  if (named.strategy !== undefined) check('strategy', named.strategy, list.strategies);
}

const isPath = (name: string): boolean => /[/\\]|\.(ts|js|mjs)$/.test(name);

function check(kind: string, given: string, known: readonly string[]): void {
  if (known.includes(given)) return;
  if (kind === 'strategy' || !isPath(given)) throw unknownName(kind, given, known);
  if (!existsSync(given)) throw new InputError(`no ${kind} file at '${given}'; check the path, or see 'dmarena list'`);
}
