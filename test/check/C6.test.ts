import { EntryFound, EntryWritten } from '#src/drivers/events';
import { entryFetched, TableKind } from '#src/hardware/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('C6');
  const { host } = here.vmm.world;
  const rid = here.rid('A');
  return {
    find: (word0: number, word1: number, word2: number) => EntryFound.emit(host.kernel, TableKind.PASID, rid, 0, word0, word1, word2),
    write: (word0: number, word1: number, word2: number) => EntryWritten.emit(host.kernel, TableKind.PASID, rid, 0, word0, word1, word2),
    fetch: (word0: number, word1: number, word2: number) => entryFetched.emit(host.kernel, TableKind.PASID, rid, 0, word0, word1, word2),
    verdict: () => here.verdict()?.message ?? null,
  };
}

test('holds: what was there from the start, what was written, and what was before that', async () => {
  const { find, write, fetch, verdict } = await setUp();
  fetch(0x41, 9, 0);
  find(0x41, 9, 0);
  write(0x49, 2, 0x5000);
  fetch(0x49, 2, 0x5000);
  write(0x4d, 3, 0x6000);
  fetch(0x49, 2, 0x5000);
  fetch(0x41, 9, 0);
  fetch(0x4d, 3, 0x6000);
  expect(verdict()).toBeNull();
});

test.each([[0x49, 3, 0x5000], [0x4d, 2, 0x6000], [0x49, 2, 0x6000], [0x49, 0, 0]])('breaks: 0x%x, 0x%x, 0x%x is nothing that was meant', async (word0, word1, word2) => {
  const { write, fetch, verdict } = await setUp();
  write(0x49, 2, 0x5000);
  write(0x4d, 3, 0x6000);
  fetch(word0, word1, word2);
  expect(verdict()).toMatch(/^the PASID entry of requester 0x28 was fetched as \(0x/);
});
