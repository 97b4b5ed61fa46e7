import { InvalidationQueued, SubmitReturned, SubmitTimedOut } from '#src/drivers/events';
import { invalidated } from '#src/hardware/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

/** Two descriptors are queued; those in `done` are carried out before the submission returns. */
async function submit(done: readonly number[], returns = 0): Promise<string | null> {
  const here = await court('C3');
  const memory = here.vmm.world.host.kernel;
  for (const slot of [7, 8]) InvalidationQueued.emit(memory, 0, slot, 2);
  for (const slot of done) invalidated.emit(memory, 0, slot, 2);
  here.history.actor = returns;
  SubmitReturned.emit(memory, 0);
  return here.verdict()?.message ?? null;
}

test('holds: all that was queued is carried out, or somebody else returns', async () => {
  expect(await submit([7, 8])).toBeNull();
  expect(await submit([], 1)).toBeNull();
});

test('holds: who says that it timed out has promised nothing, and what is queued again counts anew', async () => {
  const here = await court('C3');
  const memory = here.vmm.world.host.kernel;
  for (const slot of [7, 8]) InvalidationQueued.emit(memory, 0, slot, 2);
  SubmitTimedOut.emit(memory, 0, 0x28);
  SubmitReturned.emit(memory, 0);
  expect(here.verdict()).toBeNull();
  InvalidationQueued.emit(memory, 0, 8, 2);
  SubmitReturned.emit(memory, 0);
  expect(here.verdict()?.message).toContain('slot 8');
});

test('breaks: a descriptor of its own is outstanding', async () => {
  expect(await submit([7])).toBe('a flush returned while the invalidation in slot 8 of its queue was not carried out yet');
  expect(await submit([])).toContain('slot 7');
});
