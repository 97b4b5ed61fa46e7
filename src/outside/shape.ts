/** Whether an object from outside has the members that its kind needs: the first that does not fit is one line. */
import { InputError, unknownName } from '../input-error.ts';
import { tell } from './file.ts';

export interface Member {
  /** What it has to be, in words. */
  readonly needs: string;
  readonly optional?: boolean;
  fits(value: unknown): boolean;
}

export const sentence: Member = { needs: 'a text', fits: (value) => typeof value === 'string' && value.trim() !== '' };
export const sentenceOrNull: Member = { needs: 'a text or null', fits: (value) => value === null || sentence.fits(value) };
export const texts: Member = { needs: 'a list of texts', fits: (value) => Array.isArray(value) && value.every((one) => sentence.fits(one)) };
export const plainFunction: Member = { needs: 'a plain function', fits: (value) => typeof value === 'function' && !isDeferred(value) };
export const optional = (member: Member): Member => ({ ...member, optional: true });
export const wholeNumber = (least: number, greatest: number): Member => ({
  needs: `a whole number from ${least} to ${greatest}`,
  fits: (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= greatest,
});

export const oneOf = (...values: readonly (string | number | boolean)[]): Member => ({
  needs: values.map((value) => JSON.stringify(value)).join(' or '),
  fits: (value) => values.includes(value as string),
});

/** Async functions and generators: what they do happens later, when the actor no longer has its turn. */
const isDeferred = (value: object): boolean => /^(Async|Generator)/.test(value.constructor.name);

/** Throws `InputError` that begins with `path`; `noun` says what the object is (`an invariant`). */
export function checkMembers(path: string, noun: string, value: unknown, members: Readonly<Record<string, Member>>): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Promise) {
    throw new InputError(`${path}: ${tell(value)} is not ${noun}; its function has to return ${noun}`);
  }
  const known = Object.keys(members);
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) throw new InputError(`${path}: in ${noun}: ${unknownName('member', unknown, known).message}`);
  for (const [name, member] of Object.entries(members)) {
    const given = (value as Record<string, unknown>)[name];
    if (given === undefined && member.optional === true) continue;
    if (given === undefined) throw new InputError(`${path}: ${noun} needs '${name}': ${member.needs}`);
    if (!member.fits(given)) throw new InputError(`${path}: '${name}' of ${noun} is ${describe(given)}; it has to be ${member.needs}`);
  }
}

/** A value that does not fit, in a message. */
function describe(given: unknown): string {
  if (typeof given === 'number' || typeof given === 'string') return JSON.stringify(given);
  if (typeof given === 'function' && isDeferred(given)) return given.constructor.name.startsWith('Async') ? 'an async function' : 'a generator';
  return Array.isArray(given) && given.length > 0 ? `a list that holds ${describe(given[0])}` : tell(given);
}
