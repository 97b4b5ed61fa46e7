import { formatSeconds, parseDuration } from '#src/duration';
import { InputError } from '#src/input-error';
import { expect, test } from 'vitest';

test.each([['500ms', 500], ['10s', 10_000], ['2m', 120_000], ['1h', 3_600_000], ['1.5s', 1_500]])('%s is %i ms', (text, ms) => {
  expect(parseDuration(text, '--duration')).toBe(ms);
});

const refused = ['', 'NaN', '10', '0s', '-5s', '0.1ms', '5 s', 's', '1e3s', 'Infinitys', '10s5', '9999h'];
test.each(refused)('%j is no duration, and the line names the flag', (text) => {
  expect(() => parseDuration(text, '--budget')).toThrow(InputError);
  expect(() => parseDuration(text, '--budget')).toThrow(/^--budget '.*' is [^\n]*$/);
});

test('seconds are shown as people say them', () => {
  expect([0.84, 12.3, 119, 200].map(formatSeconds)).toEqual(['0.8 s', '12 s', '119 s', '3 min 20 s']);
});
