import { seenBy, Visibility } from '#hostmem/frames';
import { Judge } from '#src/check/judge';
import { loadInvariants } from '#src/check/catalogue';
import { View } from '#src/check/view';
import { History, historyBytes } from '#hostmem/history';
import { guestFrame, Tvm } from '#src/kernel/tvm';
import { expect, test } from 'vitest';
import { confidentialWorld, free } from '../kernel/confidential-world.ts';

async function judged() {
  const { host, kernel, tvm } = confidentialWorld();
  const judge = new Judge(await loadInvariants(['T5']), new History(new SharedArrayBuffer(historyBytes(1, 64)), 1, 64), new View(host.buffers));
  const red = tvm('red');
  const frame = guestFrame(kernel, red, free[0]!);
  const guest = Tvm.guest.peek(host.kernel, red);
  return { host, red, frame, guest, see: (visibility: Visibility, of = guest) => host.frames.pokeVisibility(frame, seenBy(visibility, of)), verdict: () => judge.quiescence() };
}

test('holds: what is free is private, and what is not free is what it is', async () => {
  const { host, red, see, verdict } = await judged();
  expect(verdict()).toBeNull();
  see(Visibility.SHARED);
  Tvm.freePages.poke(host.kernel, red, Tvm.freePages.peek(host.kernel, red) & ~(1 << free[0]!));
  expect(verdict()).toBeNull();
});

test.each([
  ['that the host can see', Visibility.SHARED, 'one that the host can see'],
  ['on its way', Visibility.PENDING, 'on its way'],
])('breaks: a free page %s', async (_, visibility, message) => {
  const { see, verdict } = await judged();
  see(visibility);
  expect(verdict()).toMatchObject({ invariant: 'T5', message: expect.stringContaining(message) });
});

test('breaks: a free page that is private to another guest', async () => {
  const { see, guest, verdict } = await judged();
  see(Visibility.PRIVATE, guest + 1);
  expect(verdict()?.invariant).toBe('T5');
});
