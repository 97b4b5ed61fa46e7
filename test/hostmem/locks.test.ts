import { Host } from '#hostmem/host';
import { expect, test } from 'vitest';
import { Arena, runTask, runTasks } from './arena.ts';

function arena() {
  const host = Host.create(1 << 20, 1 << 20);
  return { kernel: host.kernel, task: { buffers: host.buffers, arena: Arena.create(host.kernel), parties: 3 } };
}

// A lost wake-up costs two seconds: a lock that loses them as a rule runs into the time limit of the test.

test('three threads that add to a plain word under a mutex lose no addition', async () => {
  const { kernel, task } = arena();
  await runTasks({ ...task, job: 'countUnderMutex', rounds: 20_000 });
  expect(Arena.count.peek(kernel, task.arena)).toBe(60_000);
  expect(Arena.lock.isHeld(kernel, task.arena)).toBe(false);
});

test('a thread that sleeps on a mutex is woken by the release', async () => {
  const { kernel, task } = arena();
  await runTasks({ ...task, job: 'takeTurnsUnderMutex', rounds: 200 });
  expect(Arena.count.peek(kernel, task.arena)).toBe(600);
});

test('a reader of a rwsem never sees a writer at work, and no writer loses a change', async () => {
  const { kernel, task } = arena();
  const torn = await runTasks({ ...task, job: 'readAndWrite', rounds: 9_000 });
  expect(torn).toEqual([0, 0, 0]);
  expect(Arena.left.peek(kernel, task.arena)).toBe(9_000);
  expect(Arena.right.peek(kernel, task.arena)).toBe(9_000);
  expect(Arena.sem.peek(kernel, task.arena) & 0x7fffffff).toBe(0);
});

test('a reader that comes while a writer waits gets in behind it, though readers hold the lock', async () => {
  for (let round = 0; round < 3; round++) {
    const { kernel, task } = arena();
    const alone = () => ({ ...task, parties: 1, self: 0, rounds: 1, start: new Int32Array(new SharedArrayBuffer(4)) });
    Arena.sem.acquireRead(kernel, task.arena);
    const writer = runTask({ ...alone(), job: 'writeOnce' });
    while ((Arena.sem.peek(kernel, task.arena) & 0x7ffe0000) === 0) await soon();
    const reader = runTask({ ...alone(), job: 'readOnce' });
    while (Arena.announced.peek(kernel, task.arena) === 0) await soon();
    // Gives a reader that would overtake the time to do so; it cannot make a right lock fail.
    await soon(30);
    Arena.sem.releaseRead(kernel, task.arena);
    expect([await writer, await reader]).toEqual([0, 1]);
  }
});

test('a turn that goes round three threads reaches each of them every time', async () => {
  const { kernel, task } = arena();
  await runTasks({ ...task, job: 'takeTurns', rounds: 3_000 });
  expect(Arena.count.peek(kernel, task.arena)).toBe(9_000);
  expect(Arena.turn.peek(kernel, task.arena)).toBe(9_000);
});

const soon = (ms = 1): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
