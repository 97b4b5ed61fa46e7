/** A process of several that share an iommufd, a file and a dma-buf: random calls that map, revoke, attach and change hands; each answer must be a legal one. */
import { Host, type HostBuffers } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import type { Ref } from '#hostmem/object';
import { MockDriver } from '#src/drivers/mock/driver';
import { Errno } from '#src/kernel/errno';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { testIoctl } from '#src/kernel/selftest/commands';
import { ioctl } from '#src/kernel/syscalls';
import { parentPort, workerData } from 'node:worker_threads';

export interface FilesTask {
  readonly buffers: HostBuffers;
  readonly process: number;
  readonly fd: number;
  readonly ioases: readonly number[];
  readonly memfd: number;
  readonly dmabuf: number;
  readonly userVa: bigint;
  readonly seed: number;
  readonly rounds: number;
}

const legal: Readonly<Record<string, readonly string[]>> = {
  memory: ['ENOMEM'], file: ['ENOMEM'], dmabuf: ['ENODEV'], unmap: ['ENOENT', 'EBUSY'], attach: ['ENOMEM'], destroy: ['ENOENT', 'EBUSY'],
  change: ['EINVAL', 'EBUSY', 'ENOMEM'], revoke: [], copy: ['ENOENT', 'ENOMEM'],
};

const task = workerData as FilesTask;
const host = new Host(task.buffers);
const kernel = new Kernel(host, linux72, new MockDriver(host));
kernel.enter(task.process as Ref<'Process'>);
let state = task.seed;
const random = (bound: number): number => mix32((state = (state + 0x9e3779b9) | 0)) % bound;
const succeeded: Record<string, number> = {};
const mine: number[] = [];

function attempt(what: string, call: () => void): void {
  try {
    call();
    succeeded[what] = (succeeded[what] ?? 0) + 1;
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    if (!legal[what]!.includes(error.name)) throw new Error(`${what} answered ${error.name}: ${error.reason}`);
  }
}

const { fd } = task;
const flags = 6;
const ioas = (): number => task.ioases[random(task.ioases.length)]!;
const length = (): bigint => BigInt(1 + random(3)) * 4096n;
const iova = (): bigint => 0x1000000n + BigInt(random(16)) * 4096n;

/** By weight: what is mapped has to go again. */
const calls: readonly [string, () => void][] = [
  ['memory', () => ioctl(kernel, fd, 'IOMMU_IOAS_MAP', { flags, ioasId: ioas(), userVa: task.userVa, length: length(), iova: 0n })],
  ['file', () => ioctl(kernel, fd, 'IOMMU_IOAS_MAP_FILE', { flags, ioasId: ioas(), fd: task.memfd, start: 0n, length: length(), iova: 0n })],
  ['dmabuf', () => ioctl(kernel, fd, 'IOMMU_IOAS_MAP_FILE', { flags, ioasId: ioas(), fd: task.dmabuf, start: 0n, length: length(), iova: 0n })],
  ['copy', () => ioctl(kernel, fd, 'IOMMU_IOAS_COPY', { flags, dstIoasId: ioas(), srcIoasId: ioas(), length: 4096n, dstIova: 0n, srcIova: iova() })],
  ['unmap', () => ioctl(kernel, fd, 'IOMMU_IOAS_UNMAP', { ioasId: ioas(), iova: iova(), length: 0x10000n })],
  ['unmap', () => ioctl(kernel, fd, 'IOMMU_IOAS_UNMAP', { ioasId: ioas(), iova: 0n, length: 2n ** 64n - 1n })],
  ['attach', attach],
  ['destroy', destroy],
  ['revoke', () => testIoctl(kernel, fd, 'IOMMU_TEST_DMABUF_REVOKE', { fd: task.dmabuf, revoked: random(3) === 0 })],
  ['change', () => ioctl(kernel, fd, 'IOMMU_IOAS_CHANGE_PROCESS', {})],
];

function attach(): void {
  if (mine.length >= 3) return;
  const arg = { id: ioas(), outStdevId: 0, outHwptId: 0, outIdevId: 0 };
  testIoctl(kernel, fd, 'IOMMU_TEST_MOCK_DOMAIN', arg);
  mine.push(arg.outStdevId);
}

function destroy(): void {
  const id = mine.pop();
  if (id === undefined) return;
  try {
    ioctl(kernel, fd, 'IOMMU_DESTROY', { id });
  } catch (error) {
    mine.push(id);
    throw error;
  }
}

for (let round = 0; round < task.rounds; round++) {
  const [what, call] = calls[random(calls.length)]!;
  attempt(what, call);
}
while (mine.length > 0) attempt('destroy', destroy);
parentPort!.postMessage(succeeded);
