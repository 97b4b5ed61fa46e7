/** Every allocation, pin and copy-out of a call fails in turn: the call says so, and has changed nothing. */
import { loadSequences } from '#src/fail-nth/catalogue';
import { failNth } from '#src/fail-nth/fail-nth';
import { expect, test } from 'vitest';

const sequences = await loadSequences();

test('there are call sequences for every kind of object, each with a name of its own', () => {
  expect(sequences.length).toBeGreaterThanOrEqual(40);
  expect(new Set(sequences.map(({ name }) => name)).size).toBe(sequences.length);
});

test.each(sequences.map(({ name }) => name))('%s: whatever it cannot have, it leaves nothing behind, and succeeds when it is made again', async (name) => {
  const result = await failNth({ names: [name], nth: null, asIn72: false });
  expect(result.sequences[0]!.problems).toEqual([]);
});

test('the sweep sees what 7.2 leaves behind: K3, K4 and K7', async () => {
  const { sequences: swept } = await failNth({ names: [], nth: null, asIn72: true });
  const told = (name: string): string => swept.find((one) => one.name === name)!.problems.map(({ message }) => message).join('\n');
  expect(told('ATTACH of a PASID beside the RID')).toContain('VfioDevice.attached was 1 and is 0');
  expect(told('replace of a group by an HWPT of the same IOAS')).toContain('does not reserve the interrupt window');
  expect(told('replace of a group by another IOAS')).toContain('translates through blocking');
});

test('one failure alone can be asked for; a number that nothing reaches is refused', async () => {
  const { sequences: swept } = await failNth({ names: ['IOAS_ALLOC'], nth: 2, asIn72: false });
  expect(swept).toEqual([{ name: 'IOAS_ALLOC', points: 4, problems: [] }]);
  await expect(failNth({ names: ['IOAS_ALLOC'], nth: 99, asIn72: false })).rejects.toThrow('--fail-nth 99');
  await expect(failNth({ names: ['IOAS_ALOC'], nth: null, asIn72: false })).rejects.toThrow('IOAS_ALLOC');
});
