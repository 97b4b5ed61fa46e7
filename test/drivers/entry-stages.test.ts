/** What hardware that reads an entry in pieces sees of each policy of writing it. */
import { stagesOf, type EntryValue } from '#src/drivers/entry-stages';
import fc from 'fast-check';
import { expect, test } from 'vitest';

/** Hardware uses word 1 for type 1 alone, word 2 for type 2 alone; the type is bits [2:1] of word 0. */
function usedBits([word0]: EntryValue): EntryValue {
  if ((word0 & 1) === 0) return [1, 0, 0];
  const type = (word0 >>> 1) & 3;
  return [-1, type === 1 ? -1 : 0, type === 2 ? -1 : 0];
}

const acted = (entry: EntryValue): string => entry.map((word, i) => word & usedBits(entry)[i]!).join();

/** All that hardware can act on: each word as it is before, or after, each write, never back in time. */
function seen(policy: 'copy' | 'break' | 'hitless', from: EntryValue, to: EntryValue): Set<string> {
  const states: EntryValue[] = [from];
  for (const stage of stagesOf(policy, from, to, usedBits)) {
    let state = states.at(-1)!;
    // Each stage is flushed: a reader of words of an earlier stage has ended before the next one.
    stage.forEach((word, i) => states.push((state = state.map((old, j) => (i === j ? word : old)) as unknown as EntryValue)));
  }
  return new Set(states.map(acted));
}

const word = fc.integer({ min: 0, max: 7 });
const present = fc.tuple(fc.constantFrom(1, 3, 5, 7), word, word) as fc.Arbitrary<EntryValue>;

test('clear, then set: the old entry, none, or the new one', () => {
  fc.assert(fc.property(present, present, (from, to) => {
    const allowed = new Set([acted(from), acted(to), acted([0, 0, 0])]);
    for (const one of seen('break', from, to)) expect(allowed.has(one), one).toBe(true);
  }));
});

test('hitless: never none where one word decides, and the same as clear-then-set elsewhere', () => {
  let hits = 0;
  fc.assert(fc.property(present, present, (from, to) => {
    const all = seen('hitless', from, to);
    const allowed = new Set([acted(from), acted(to), acted([0, 0, 0])]);
    for (const one of all) expect(allowed.has(one), one).toBe(true);
    if (!all.has(acted([0, 0, 0]))) hits++;
  }), { numRuns: 500, seed: 3 });
  expect(hits).toBeGreaterThan(50);
});

test('every policy ends with the new entry', () => {
  fc.assert(fc.property(present, present, fc.constantFrom('copy', 'break', 'hitless'), (from, to, policy) => {
    expect(stagesOf(policy, from, to, usedBits).at(-1)).toEqual(to);
  }));
});

test('a copy over a live entry shows a mixture', () => {
  expect(seen('copy', [3, 1, 0], [3, 2, 0])).toEqual(new Set(['3,1,0', '3,2,0']));
  expect([...seen('copy', [3, 1, 0], [5, 0, 2])]).toContain('5,0,0');
});
