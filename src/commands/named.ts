/** The strategy that the command line names: whether it is there, and with which bound. */
import { InputError, unknownName } from '../input-error.ts';
import { Strategies } from '../schedule/strategy.ts';

/** The kernel without a mistake: not listed among the variants, always there. */
export const correct = 'correct';

/** Throws `InputError`. A name may end in a number: `pct4`. */
export async function checkStrategy(given: string): Promise<void> {
  const strategies = await Strategies.load();
  if (!strategies.names.includes(given.replace(/\d+$/, ''))) throw unknownName('strategy', given, strategies.names);
  try {
    strategies.find(given);
  } catch (error) {
    throw new InputError((error as Error).message);
  }
}

/** The strategy with its bound, which only one that bounds preemptions takes. Throws `InputError`. */
export function bounded(strategy: string, bound: number | null): string {
  if (bound === null) return strategy;
  if (strategy !== 'icb') throw new InputError(`--bound is for --strategy icb, not for '${strategy}'`);
  return `${strategy}${bound}`;
}
