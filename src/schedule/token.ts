/**
 * A failing schedule as a word that can be pasted: `v1.<scenario>~<variant tag>.<code hash>.<body>.<check>`.
 *
 * The body is base64url of varints: the seed, how many other numbers and those numbers (what the caller needs to build
 * the same world), then the forced switches to the end. A switch is its pair (actor + 1, next) in one number, then its
 * count; the start actor's has no count. Two or three bytes a switch, so that nearly all shrunk failures fit into 64
 * characters. Switches are keyed by an actor's own operations: a token stays valid when unrelated actors change.
 */
import { hashText } from '#hostmem/labels';
import { startOfSchedule, stepCapacity, type Switch } from './board.ts';

export interface Token {
  readonly scenario: string;
  /** Names the variant among those of the kernel; null for the correct kernel. */
  readonly variantTag: string | null;
  /** Of the code that ran when the token was made: another code may replay it differently. */
  readonly codeHash: string;
  /** 32 bits. */
  readonly seed: number;
  /** Whole numbers from 0: the number of VMs and the like, in the caller's order. */
  readonly parameters: readonly number[];
  readonly switches: readonly Switch[];
}

/** What is wrong with a token, in one line. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
}

const version = 'v1';
const wordPattern = /^[A-Za-z0-9_-]+$/;

/** Throws where a part has characters that a token cannot carry. */
export function encodeToken(token: Token): string {
  for (const word of [token.scenario, token.codeHash, token.variantTag ?? 'none']) {
    if (!wordPattern.test(word)) throw new TokenError(`'${word}' cannot be part of a token: letters, digits, _ and - only`);
  }
  const subject = token.variantTag === null ? token.scenario : `${token.scenario}~${token.variantTag}`;
  const body = Buffer.from(encodeBody(token)).toString('base64url');
  const text = `${version}.${subject}.${token.codeHash}.${body}`;
  return `${text}.${checkOf(text)}`;
}

/** Throws a `TokenError`: no token, of another version, or damaged. */
export function decodeToken(text: string): Token {
  const parts = text.split('.');
  const [tokenVersion, subject, codeHash, body, check] = parts;
  if (parts.length !== 5 || !/^v\d+$/.test(tokenVersion!)) throw new TokenError(`not a token: ${quote(text)}`);
  if (tokenVersion !== version) throw new TokenError(`the token is of version ${tokenVersion}; this is ${version}`);
  const expected = checkOf(text.slice(0, text.lastIndexOf('.')));
  if (check !== expected) throw new TokenError(`the token is damaged: its check is ${quote(check!)}, its content gives '${expected}'`);
  const match = /^([A-Za-z0-9_-]+)(?:~([A-Za-z0-9_-]+))?$/.exec(subject!);
  if (match === null || !wordPattern.test(codeHash!)) throw new TokenError(`not a token: ${quote(text)}`);
  return { scenario: match[1]!, variantTag: match[2] ?? null, codeHash: codeHash!, ...decodeBody(body!) };
}

function encodeBody({ seed, parameters, switches }: Token): number[] {
  const bytes: number[] = [];
  putNumber(bytes, seed);
  putNumber(bytes, parameters.length);
  for (const parameter of parameters) putNumber(bytes, parameter);
  for (const { actor, count, next } of switches) {
    putNumber(bytes, pair(actor === startOfSchedule ? 0 : actor + 1, next));
    if (actor !== startOfSchedule) putNumber(bytes, count);
  }
  return bytes;
}

function decodeBody(body: string): Pick<Token, 'seed' | 'parameters' | 'switches'> {
  const reader = new VarintReader(Buffer.from(body, 'base64url'));
  const seed = reader.next();
  const parameters = Array.from({ length: Math.min(reader.next(), stepCapacity + 2) }, () => reader.next());
  const switches: Switch[] = [];
  while (!reader.isAtEnd) {
    const [actorPlusOne, next] = unpair(reader.next());
    if (actorPlusOne === 0) switches.push({ actor: startOfSchedule, count: 0, next });
    else switches.push({ actor: actorPlusOne - 1, count: reader.next(), next });
  }
  return { seed, parameters, switches };
}

/** Seven bits a byte, least significant first; the top bit says that more follow. */
function putNumber(bytes: number[], value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new TokenError(`${value} cannot be part of a token: whole numbers from 0 only`);
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
}

class VarintReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  next(): number {
    let value = 0;
    for (let weight = 1; ; weight *= 128) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new TokenError('the token is damaged: its body ends in the middle of a number');
      value += (byte & 127) * weight;
      if (byte < 128) return value;
    }
  }
}

/** Szudzik's pairing: two small numbers in one small number, so that a switch of ten actors takes one byte. */
const pair = (a: number, b: number): number => (a < b ? b * b + a : a * a + a + b);

function unpair(paired: number): readonly [number, number] {
  const root = Math.floor(Math.sqrt(paired));
  const rest = paired - root * root;
  return rest < root ? [rest, root] : [root, rest - root];
}

/** 24 bits over everything before it. */
function checkOf(text: string): string {
  const hash = hashText(text);
  return Buffer.from([hash >>> 24, hash >>> 16, hash >>> 8]).toString('base64url');
}

const quote = (text: string): string => JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
