/** Descriptors that several threads of a process open, use and close: a look-up takes no lock. */
import { close } from '#src/kernel/syscalls';
import { errnoOf } from '#src/kernel/errno';
import { liveObjects } from '#hostmem/object';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import type { DescriptorsTask } from './descriptors.worker.ts';
import { MockWorld } from './mock-world.ts';

const workerFile = fileURLToPath(new URL('../../dist/test/kernel/descriptors.worker.js', import.meta.url));
const threads = 3;
const descriptors = 4;

function run(task: DescriptorsTask): Promise<Readonly<Record<string, number>>> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(workerFile, { workerData: task });
    worker.on('message', resolve);
    worker.on('error', reject);
    worker.on('exit', (code) => reject(new Error(`a thread ended with ${code} before it answered`)));
  });
}

test('a descriptor that is used while others close it is open or EBADF, and each file is released once', async () => {
  const world = new MockWorld();
  const live = liveObjects(world.kernel.memory);
  const firstFd = world.fd + 1;
  const common = { buffers: world.host.buffers, process: world.process, firstFd, descriptors, rounds: 50_000, gate: new SharedArrayBuffer(4096), threads };
  const answers = await Promise.all(Array.from({ length: threads }, (_, index) => run({ ...common, seed: 5 + index })));
  const sum = (answer: string): number => answers.reduce((all, one) => all + (one[answer] ?? 0), 0);
  expect([...new Set(answers.flatMap((one) => Object.keys(one)))].toSorted()).toEqual(['close EBADF', 'close ok', 'open ok', 'use EBADF', 'use ok']);
  expect(sum('use ok')).toBeGreaterThan(100);
  expect(sum('close ok')).toBeGreaterThan(100);
  let left = 0;
  for (let fd = firstFd; sum('open ok') - sum('close ok') > left; fd++) left += errnoOf(() => close(world.kernel, fd)) === null ? 1 : 0;
  expect(liveObjects(world.kernel.memory)).toBe(live);
});
