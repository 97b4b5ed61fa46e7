/** Descriptors that several threads of a process open, use and close: a look-up takes no lock. */
import { close } from '#src/kernel/syscalls';
import { errnoOf } from '#src/kernel/errno';
import { liveObjects } from '#hostmem/object';
import { expect, test } from 'vitest';
import { answerOf } from '../answer-of.ts';
import type { DescriptorsTask } from './descriptors.worker.ts';
import { MockWorld } from './mock-world.ts';

const threads = 3;
const descriptors = 4;

/** How often a thread got an answer. */
type Answer = Readonly<Record<string, number>>;

test('a descriptor that is used while others close it is open or EBADF, and each file is released once', async () => {
  const world = new MockWorld();
  const live = liveObjects(world.kernel.memory);
  const firstFd = world.fd + 1;
  const common = { buffers: world.host.buffers, process: world.process, firstFd, descriptors, rounds: 50_000, gate: new SharedArrayBuffer(4096), threads };
  const answers = await Promise.all(Array.from({ length: threads }, (_, index) => answerOf<Answer>('kernel/descriptors.worker', { ...common, seed: 5 + index } satisfies DescriptorsTask)));
  const sum = (answer: string): number => answers.reduce((all, one) => all + (one[answer] ?? 0), 0);
  expect([...new Set(answers.flatMap((one) => Object.keys(one)))].toSorted()).toEqual(['close EBADF', 'close ok', 'open ok', 'use EBADF', 'use ok']);
  expect(sum('use ok')).toBeGreaterThan(100);
  expect(sum('close ok')).toBeGreaterThan(100);
  let left = 0;
  for (let fd = firstFd; sum('open ok') - sum('close ok') > left; fd++) left += errnoOf(() => close(world.kernel, fd)) === null ? 1 : 0;
  expect(liveObjects(world.kernel.memory)).toBe(live);
});
