/** A process on a host of its own that makes system calls, and gives everything back at the end. */
import { liveObjects } from '#hostmem/object';
import { errnoOf, type ErrnoName } from '../kernel/errno.ts';
import { closeAll } from '../kernel/file.ts';
import { MapFlag } from '../kernel/ioas.ts';
import { Kernel } from '../kernel/kernel.ts';
import type { Operations } from '../kernel/operations.ts';
import { exit, fork } from '../kernel/fork.ts';
import { mmap, munmapAll, Process } from '../kernel/process.ts';
import { testIoctl, type TestCommands } from '../kernel/selftest/commands.ts';
import { close, ioctl, open, read, type Commands } from '../kernel/syscalls.ts';
import type { BuiltProcess } from '../built-process.ts';
import type { BuiltGroup } from '../built-groups.ts';
import { World } from '../world.ts';

export const page = 4096;
/** FIXED, writeable, readable. */
export const fixed = MapFlag.FIXED_IOVA | MapFlag.WRITEABLE | MapFlag.READABLE;

/** VT-d and its devices, in legacy mode or with guests' tables, SMMUv3, or the mock IOMMU of the kernel's selftest. */
export type Iommu = 'vtd-legacy' | 'vtd-nested' | 'smmuv3' | 'mock';

export class Caller {
  readonly world: World;
  readonly kernel: Kernel;
  readonly #process: BuiltProcess;
  /** Objects and frames of the machine, which stay. */
  #objects: number;
  #frames: number;
  readonly #last: (() => void)[] = [];

  constructor(iommu: Iommu, operations: Operations) {
    this.world = new World({ iommu, ramBytes: 2 << 20, kernelBytes: 1 << 20 });
    this.#process = this.world.process('caller');
    this.kernel = new Kernel(this.world.host, operations, this.world.kernel.driver);
    this.kernel.enter(this.#process.ref);
    this.#objects = liveObjects(this.kernel.memory);
    this.#frames = this.world.host.frames.inUse;
  }

  /** Functions of one group. */
  group(...names: string[]): BuiltGroup {
    const before = this.left();
    const group = this.world.group(...names);
    const now = this.left();
    this.#objects += now.objects - before.objects;
    this.#frames += now.frames - before.frames;
    return group;
  }

  open(path: string = '/dev/iommu'): number {
    return open(this.kernel, path);
  }
  close(fd: number): void {
    close(this.kernel, fd);
  }

  read(fd: number, count: number): Uint8Array {
    return read(this.kernel, fd, count);
  }

  ioctl<N extends keyof Commands>(fd: number, command: N, arg: Commands[N]): ErrnoName | null {
    return errnoOf(() => ioctl(this.kernel, fd, command, arg));
  }
  test<N extends keyof TestCommands>(fd: number, command: N, arg: TestCommands[N]): ErrnoName | null {
    return errnoOf(() => testIoctl(this.kernel, fd, command, arg));
  }

  /** What has to succeed. */
  must(errno: ErrnoName | null): void {
    if (errno !== null) throw new Error(`a call that only prepares failed: ${errno}`);
  }

  memory(lengthBytes: number): bigint {
    return mmap(this.kernel, this.kernel.process, lengthBytes, true, null);
  }

  ioas(fd: number): number {
    const arg = { flags: 0, outIoasId: 0 };
    this.must(this.ioctl(fd, 'IOMMU_IOAS_ALLOC', arg));
    return arg.outIoasId;
  }
  map(fd: number, ioasId: number, iova: number, userVa: bigint, lengthBytes: number = page, flags: number = fixed): ErrnoName | null {
    return this.ioctl(fd, 'IOMMU_IOAS_MAP', { flags, ioasId, userVa, length: BigInt(lengthBytes), iova: BigInt(iova) });
  }
  hwptAlloc(fd: number, arg: Pick<Commands['IOMMU_HWPT_ALLOC'], 'devId' | 'ptId'> & Partial<Commands['IOMMU_HWPT_ALLOC']>): number {
    const whole = { flags: 0, outHwptId: 0, ...arg };
    this.must(this.ioctl(fd, 'IOMMU_HWPT_ALLOC', whole));
    return whole.outHwptId;
  }

  /** An open, bound VFIO device. */
  bind(vfio: number, iommufd: number): { readonly fd: number; readonly devId: number } {
    const fd = this.open(`/dev/vfio/devices/vfio${vfio}`);
    const arg = { argsz: 24, flags: 0, iommufd, outDevid: 0 };
    this.must(this.ioctl(fd, 'VFIO_DEVICE_BIND_IOMMUFD', arg));
    return { fd, devId: arg.outDevid };
  }
  attach(vfioFd: number, ptId: number): ErrnoName | null {
    return this.ioctl(vfioFd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId });
  }
  attachPasid(vfioFd: number, pasid: number, ptId: number): ErrnoName | null {
    return this.ioctl(vfioFd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 20, flags: 1, ptId, pasid });
  }

  /** A mock device, attached to `ptId`. */
  mockDevice(fd: number, ptId: number, deviceFlags: number = 0): { readonly id: number; readonly devId: number; readonly hwptId: number } {
    const arg = { id: ptId, deviceFlags, outStdevId: 0, outHwptId: 0, outIdevId: 0 };
    this.must(this.test(fd, 'IOMMU_TEST_MOCK_DOMAIN_FLAGS', arg));
    return { id: arg.outStdevId, devId: arg.outIdevId, hwptId: arg.outHwptId };
  }

  /** fork(2), and exit(2) of the child. ENOMEM. */
  forkAndExit(): void {
    const child = fork(this.kernel, 99);
    this.kernel.enter(child);
    exit(this.kernel);
    Process.free(this.kernel.memory, child);
    this.kernel.enter(this.#process.ref);
  }

  /** What there is beside the machine. */
  left(): { readonly objects: number; readonly frames: number } {
    return { objects: liveObjects(this.kernel.memory) - this.#objects, frames: this.world.host.frames.inUse - this.#frames };
  }

  /** What the selftest's program has to do itself: the kernel does not detach a mock device's PASIDs when it closes. */
  atExit(last: () => void): void {
    this.#last.push(last);
  }

  /** Unmaps and closes everything. */
  exit(): void {
    for (const last of this.#last) last();
    munmapAll(this.kernel, this.kernel.process);
    closeAll(this.kernel, this.kernel.process);
  }
}
