import { startOfSchedule } from '#src/schedule/board';
import { decodeToken, encodeToken, TokenError, type Token } from '#src/schedule/token';
import fc from 'fast-check';
import { expect, test } from 'vitest';

const word = (maxLength: number): fc.Arbitrary<string> => fc.stringMatching(new RegExp(`^[a-z0-9][a-z0-9-]{0,${maxLength - 1}}$`));
const forced = fc.record({ actor: fc.nat(253), count: fc.nat(100_000), next: fc.nat(253) });
const start = fc.nat(253).map((next) => ({ actor: startOfSchedule, count: 0, next }));
const tokens: fc.Arbitrary<Token> = fc.record({
  scenario: word(24),
  variantTag: fc.option(word(4)),
  codeHash: word(6),
  seed: fc.nat(0xffffffff),
  parameters: fc.array(fc.nat(1_000_000), { maxLength: 6 }),
  switches: fc.array(fc.oneof(forced, start), { maxLength: 20 }),
});

/** The one-line error that a text is refused with, or null. */
function refusal(text: string): string | null {
  try {
    decodeToken(text);
    return null;
  } catch (error) {
    expect(error).toBeInstanceOf(TokenError);
    return (error as TokenError).message;
  }
}

test('a token says what was put into it', () => {
  fc.assert(
    fc.property(tokens, (token) => {
      expect(decodeToken(encodeToken(token))).toEqual(token);
    }),
  );
});

test('a token with one character changed, dropped or doubled is refused with one line', () => {
  const damage = fc.constantFrom(
    (text: string, at: number, by: string) => text.slice(0, at) + by + text.slice(at + 1),
    (text: string, at: number) => text.slice(0, at) + text.slice(at + 1),
    (text: string, at: number) => text.slice(0, at + 1) + text.slice(at),
  );
  const byCharacter = fc.constantFrom(...'AZaz09_-.~+\n ');
  fc.assert(
    fc.property(tokens, fc.nat(), damage, byCharacter, (token, where, change, by) => {
      const text = encodeToken(token);
      const damaged = change(text, where % text.length, by);
      if (damaged === text) return;
      expect(refusal(damaged)).toMatch(/^[^\n]+$/);
    }),
    { numRuns: 2_000, seed: 1 },
  );
});

test('what is wrong is said: no token, damaged, another version', () => {
  const text = encodeToken({ scenario: 'replace', variantTag: null, codeHash: 'abc123', seed: 1, parameters: [], switches: [] });
  expect(refusal('hello')).toBe('not a token: "hello"');
  expect(refusal('x'.repeat(500))).toBe(`not a token: "${'x'.repeat(40)}..."`);
  expect(refusal(text.replace('replace', 'replaced'))).toMatch(/^the token is damaged: its check is/);
  expect(refusal(text.replace('v1', 'v9'))).toBe('the token is of version v9; this is v1');
});

test('three switches of six actors, a seed of 32 bits and two parameters fit into 64 characters', () => {
  const token: Token = {
    scenario: 'replace-vs-map',
    variantTag: 'k3f9',
    codeHash: 'a81f02',
    seed: 0xffffffff,
    parameters: [4, 2],
    switches: [
      { actor: startOfSchedule, count: 0, next: 5 },
      { actor: 5, count: 120, next: 0 },
      { actor: 0, count: 301, next: 4 },
    ],
  };
  expect(encodeToken(token).length).toBeLessThanOrEqual(64);
});

test('what a token cannot carry is refused when it is made', () => {
  const token: Token = { scenario: 'replace', variantTag: null, codeHash: 'abc123', seed: 1, parameters: [], switches: [] };
  expect(() => encodeToken({ ...token, scenario: 'a.b' })).toThrow(TokenError);
  expect(() => encodeToken({ ...token, seed: -1 })).toThrow(TokenError);
});
