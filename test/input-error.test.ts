import { unknownName } from '#src/input-error';
import { expect, test } from 'vitest';

test('a name with a slip is answered with the nearest known one', () => {
  const known = ['group-replace', 'pasid-detach'];
  expect(unknownName('scenario', 'grop-replace', known).message).toBe(
    "unknown scenario 'grop-replace'; did you mean 'group-replace'? Known: group-replace, pasid-detach",
  );
});

test('a name that is like none is answered with all of them', () => {
  expect(unknownName('strategy', 'luck', ['pct', 'random']).message).toBe("unknown strategy 'luck'; known: pct, random");
  expect(unknownName('variant', 'x', []).message).toBe("unknown variant 'x'; there is none");
});
