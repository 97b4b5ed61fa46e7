/** A VMM thread: thousands of random system calls on one iommufd that others use too; each answer must be a legal one. */
import { Host, type HostBuffers } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import type { Ref } from '#hostmem/object';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { Machine } from '#src/hardware/machine';
import { Errno } from '#src/kernel/errno';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { close, ioctl, open, type Commands } from '#src/kernel/syscalls';
import { parentPort, workerData } from 'node:worker_threads';

export interface VmmTask {
  readonly buffers: HostBuffers;
  readonly process: number;
  readonly iommufd: number;
  readonly ioases: readonly number[];
  readonly vfio: number;
  readonly userVa: bigint;
  readonly seed: number;
  readonly rounds: number;
}

/** What a call may answer besides success. */
const legal: Readonly<Record<string, readonly string[]>> = {
  map: ['EEXIST'],
  unmap: ['ENOENT', 'EBUSY'],
  attach: ['EINVAL', 'ENOENT'],
  detach: [],
  alloc: [],
  destroy: ['ENOENT', 'EBUSY'],
  bind: [],
  ranges: [],
};

const task = workerData as VmmTask;
const host = new Host(task.buffers);
const kernel = new Kernel(host, linux72, new VtdDriver(host, new Machine(host)));
kernel.enter(task.process as Ref<'Process'>);
let state = task.seed;
const random = (bound: number): number => mix32((state = (state + 0x9e3779b9) | 0)) % bound;
const succeeded: Record<string, number> = {};

function call<N extends keyof Commands>(what: string, fd: number, command: N, arg: Commands[N]): boolean {
  try {
    ioctl(kernel, fd, command, arg);
    succeeded[what] = (succeeded[what] ?? 0) + 1;
    return true;
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    if (!legal[what]!.includes(error.name)) throw new Error(`${what} answered ${error.name}: ${error.reason}`);
    return false;
  }
}

function bind(): number {
  const fd = open(kernel, `/dev/vfio/devices/vfio${task.vfio}`);
  call('bind', fd, 'VFIO_DEVICE_BIND_IOMMUFD', { argsz: 24, flags: 0, iommufd: task.iommufd, outDevid: 0 });
  return fd;
}

let device = bind();

/** One random call. */
function step(): void {
  const ioasId = task.ioases[random(task.ioases.length)]!;
  const iova = BigInt(random(12) * 0x1000);
  const length = BigInt((1 + random(3)) * 0x1000);
  const kind = random(16);
  if (kind < 5) call('map', task.iommufd, 'IOMMU_IOAS_MAP', { flags: 7, ioasId, userVa: task.userVa, length, iova });
  else if (kind < 8) call('unmap', task.iommufd, 'IOMMU_IOAS_UNMAP', { ioasId, iova, length });
  else if (kind === 8) call('unmap', task.iommufd, 'IOMMU_IOAS_UNMAP', { ioasId, iova: 0n, length: 2n ** 64n - 1n });
  else if (kind < 12) call('attach', device, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId: random(4) === 0 ? random(16) : ioasId });
  else if (kind === 12) call('detach', device, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 });
  else if (kind === 13) shortLived();
  else if (kind === 14) {
    call('destroy', task.iommufd, 'IOMMU_DESTROY', { id: task.ioases.length + 1 + random(12) });
    call('ranges', task.iommufd, 'IOMMU_IOAS_IOVA_RANGES', { ioasId, numIovas: 8, ranges: [], outIovaAlignment: 0n });
  } else {
    close(kernel, device);
    device = bind();
  }
}

/** An IOAS of its own, which another thread may destroy before it does. */
function shortLived(): void {
  const arg = { flags: 0, outIoasId: 0 };
  call('alloc', task.iommufd, 'IOMMU_IOAS_ALLOC', arg);
  call('destroy', task.iommufd, 'IOMMU_DESTROY', { id: arg.outIoasId });
}

for (let round = 0; round < task.rounds; round++) step();
parentPort!.postMessage({ device, succeeded });
