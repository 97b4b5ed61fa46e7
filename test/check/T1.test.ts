import { seenBy, Visibility } from '#hostmem/frames';
import { ownedAccess } from '#src/hardware/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

async function reach(trusted: number, visibility: Visibility): Promise<string | null> {
  const here = await court('T1');
  ownedAccess.emit(here.vmm.world.host.kernel, here.rid('A'), trusted, 0, 0x1000, 5, seenBy(visibility, 1));
  return here.verdict()?.message ?? null;
}

test.each([
  ['T=0 reaches a shared page', 0, Visibility.SHARED],
  ['T=0 reaches the hypervisor\'s page', 0, Visibility.HYPERVISOR],
  ['T=0 that was on its way ends in a page that was blocked meanwhile', 0, Visibility.PENDING],
  ['T=1 reaches a private page', 1, Visibility.PRIVATE],
])('holds: %s', async (_, trusted, visibility) => {
  expect(await reach(trusted, visibility)).toBeNull();
});

test('breaks: T=0 reaches a private page', async () => {
  expect(await reach(0, Visibility.PRIVATE)).toBe('a DMA of function 05.0 with T=0 through iova 0x1000 reached frame 0x5, a private page');
});
