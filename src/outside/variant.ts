/** A variant from outside: it says what it changes, and changes only what is there. */
import { InputError, unknownName } from '../input-error.ts';
import { linux72 } from '../kernel/operations.ts';
import type { Variant } from '../kernel/variant.ts';
import { checkMembers, optional, plainFunction, sentence, sentenceOrNull, texts, type Member } from './shape.ts';

const table: Member = { needs: 'a table of functions', fits: (value) => typeof value === 'object' && value !== null && !Array.isArray(value) };
const tables = Object.keys(linux72) as (keyof typeof linux72)[];

/** Throws `InputError`. */
export function checkVariant(path: string, value: unknown): Variant {
  checkMembers(path, 'a variant', value, {
    mistake: sentenceOrNull,
    source: sentence,
    caughtBy: sentenceOrNull,
    judgedBy: optional(texts),
    ...Object.fromEntries(tables.map((name) => [name, optional(table)])),
  });
  const variant = value as Variant;
  const changed = tables.filter((name) => variant[name] !== undefined);
  if (changed.length === 0) throw new InputError(`${path}: the variant changes nothing; give it a function of ${tables.join(', ')}`);
  for (const name of changed) {
    const functions = Object.keys(linux72[name]);
    checkMembers(path, `table '${name}'`, variant[name], Object.fromEntries(functions.map((one) => [one, optional(plainFunction)])));
  }
  return variant;
}

/** Throws `InputError` when no such invariant would be there to catch it. */
export function checkCaughtBy(path: string, { caughtBy }: Variant, known: readonly string[]): void {
  if (caughtBy !== null && !known.includes(caughtBy)) {
    throw new InputError(`${path}: caughtBy: ${unknownName('invariant', caughtBy, known).message}`);
  }
}
