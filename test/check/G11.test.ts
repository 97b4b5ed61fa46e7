import { expect, test } from 'vitest';
import { peerReached } from '#src/hardware/events';
import { court } from './histories.ts';

async function reached(peer: string) {
  const here = await court('G11');
  peerReached.emit(here.vmm.world.host.kernel, here.rid('A'), 0, 0xd000_0000 | 0, here.rid(peer));
  return here.verdict()?.message ?? null;
}

test('holds: a member of a group reaches another one', async () => {
  expect(await reached('B')).toBeNull();
});

test('breaks: a member of a group reaches one of another group', async () => {
  expect(await reached('L')).toBe('function 05.0 of group 1 reached the memory of function 00:06.0 of group 2, and no unit saw it');
});
