/** Every invariant, found by walking the folder, has a history or state that holds and one that breaks it. */
import { existsSync, readFileSync } from 'node:fs';
import { invariantIds, loadInvariants } from '#src/check/catalogue';
import { expect, test } from 'vitest';

const ids = invariantIds();

test.each(ids)('%s is named after its file and has tests that hold and break it', async (id) => {
  const [invariant] = await loadInvariants([id]);
  expect(invariant).toMatchObject({ id, claim: expect.stringMatching(/\w{3,} /) });
  const path = `test/check/${id}.test.ts`;
  expect(existsSync(path), `${path} is missing: give ${id} one history that holds and one that breaks it`).toBe(true);
  const text = readFileSync(path, 'utf8');
  expect([/\('holds: /.test(text), /\('breaks: /.test(text), text.includes(`'${id}'`)]).toEqual([true, true, true]);
});

test('an invariant that does not exist is one line that says which do', async () => {
  await expect(loadInvariants(['D4', 'Z9'])).rejects.toThrow(`no invariant is called 'Z9'; there are ${ids.join(', ')}`);
});
