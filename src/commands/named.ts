/** Whether a strategy that the command line names is there. */
import { unknownName } from '../input-error.ts';
import { Strategies } from '../schedule/strategy.ts';

/** The kernel without a mistake: not listed among the variants, always there. */
export const correct = 'correct';

/** Throws `InputError`. */
export async function checkStrategy(given: string): Promise<void> {
  const { names } = await Strategies.load();
  if (!names.includes(given)) throw unknownName('strategy', given, names);
}
