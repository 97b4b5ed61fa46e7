/** A thread of a process that opens, uses and closes descriptors which all of its threads know by number: a look-up meets a close at any moment. */
import { silent } from '#hostmem/atomics';
import { Host, type HostBuffers } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import { Memory, Space } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { MockDriver } from '#src/drivers/mock/driver';
import { errnoOf } from '#src/kernel/errno';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { close, ioctl, open } from '#src/kernel/syscalls';
import { parentPort, workerData } from 'node:worker_threads';

export interface DescriptorsTask {
  readonly buffers: HostBuffers;
  readonly process: number;
  readonly firstFd: number;
  readonly descriptors: number;
  readonly seed: number;
  readonly rounds: number;
  /** A word: how many threads are ready. */
  readonly gate: SharedArrayBuffer;
  readonly threads: number;
}

const task = workerData as DescriptorsTask;
const host = new Host(task.buffers);
const kernel = new Kernel(host, linux72, new MockDriver(host));
kernel.enter(task.process as Ref<'Process'>);
const answers: Record<string, number> = {};

function count(what: string, call: () => void): void {
  const answer = `${what} ${errnoOf(call) ?? 'ok'}`;
  answers[answer] = (answers[answer] ?? 0) + 1;
}

const gate = new Memory(task.gate, Space.KERNEL);
silent.add(gate, 0, 1);
while (silent.load(gate, 0) < task.threads);
for (let round = 0, state = task.seed; round < task.rounds; round++) {
  state = mix32(state + round + 1) >>> 0;
  const fd = task.firstFd + ((state >>> 8) % task.descriptors);
  const kind = state % 8;
  if (kind === 0) count('close', () => close(kernel, fd));
  else if (kind === 1) count('open', () => void open(kernel, '/dev/iommu'));
  else count('use', () => void ioctl(kernel, fd, 'IOMMU_IOAS_ALLOC', { flags: 0, outIoasId: 0 }));
}
parentPort!.postMessage(answers);
