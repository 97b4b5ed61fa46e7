import { BounceCopied, BounceFilled } from '#src/kernel/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

const [bounce, other] = [0x10, 0x11];
const [mine, yours] = [0x20, 0x21];

async function verdictOf(...steps: readonly (readonly ['fill' | 'copy', number, number])[]): Promise<string | null> {
  const here = await court('T7');
  const memory = here.vmm.world.host.kernel;
  for (const [what, slot, frame] of steps) (what === 'fill' ? BounceFilled : BounceCopied).emit(memory, slot, frame);
  return here.verdict()?.message ?? null;
}

test('holds: every transfer begins with what its page holds', async () => {
  expect(await verdictOf(['fill', bounce, mine], ['fill', other, yours], ['copy', bounce, mine], ['fill', bounce, yours], ['copy', bounce, yours], ['copy', other, yours])).toBeNull();
});

test('breaks: a bounce page is copied with what it held for another page', async () => {
  expect(await verdictOf(['fill', bounce, mine], ['copy', bounce, mine], ['copy', bounce, yours])).toBe('the bounce page in frame 0x10 is copied to frame 0x21 with what it held for frame 0x20');
});

test('breaks: a bounce page is copied that was never filled', async () => {
  expect(await verdictOf(['fill', bounce, mine], ['copy', other, mine])).toBe('the bounce page in frame 0x11 is copied to frame 0x20 with what nobody has put there');
});
