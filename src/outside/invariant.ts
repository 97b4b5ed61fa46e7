/** An invariant from outside: a name of its own, a claim, and a step. */
import { InputError } from '../input-error.ts';
import type { AnyInvariant, Invariant } from '../check/invariant.ts';
import { checkMembers, optional, plainFunction, sentence, type Member } from './shape.ts';

const kinds: Member = {
  needs: 'a list of kinds of events, from the word events',
  fits: (value) => Array.isArray(value) && value.every((one: { kind?: unknown } | null | undefined) => typeof one?.kind === 'number'),
};

const members: Readonly<Record<keyof Invariant<unknown>, Member>> = {
  id: { needs: 'a name of letters, digits, _ and -', fits: (value) => typeof value === 'string' && /^[A-Za-z][\w-]*$/.test(value) },
  claim: sentence,
  events: kinds,
  start: plainFunction,
  step: plainFunction,
  inspectAfter: optional(kinds),
  inspect: optional(plainFunction),
};

/** Throws `InputError`. `taken` are the ids that exist. */
export function checkInvariant(path: string, value: unknown, taken: readonly string[]): AnyInvariant {
  checkMembers(path, 'an invariant', value, members);
  const checked = value as AnyInvariant;
  if (taken.includes(checked.id)) throw new InputError(`${path}: there is an invariant '${checked.id}' already; give it an id of its own`);
  return checked;
}
