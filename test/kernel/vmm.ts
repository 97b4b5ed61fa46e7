/** A host with a process that makes system calls: what the tests of the kernel share. */
import { liveObjects, type Ref } from '#hostmem/object';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { Machine } from '#src/hardware/machine';
import { errnoOf, type ErrnoName } from '#src/kernel/errno';
import type { IoasMap } from '#src/kernel/ioas';
import { Process } from '#src/kernel/process';
import { close, ioctl, open, type Commands } from '#src/kernel/syscalls';
import type { BuiltProcess } from '#src/built-process';
import { World } from '#src/world';

export { errnoOf };
export const page = 4096;
export const fixed = 7;
export const readWrite = 6;
export const U64 = 2n ** 64n - 1n;

/** What a call that fails must not change, and what is back when everything is closed. */
export interface Ledger {
  readonly objects: number;
  readonly frames: number;
  readonly pinned: number;
}

export class Vmm {
  readonly world: World;
  readonly process: BuiltProcess;

  constructor(world: World = new World(), name: string = 'vmm') {
    this.world = world;
    this.process = world.process(name);
  }

  enter(): void {
    this.world.kernel.enter(this.process.ref);
  }

  open(path: string): number {
    this.enter();
    return open(this.world.kernel, path);
  }
  iommufd(): number {
    return this.open('/dev/iommu');
  }
  close(fd: number): void {
    this.enter();
    close(this.world.kernel, fd);
  }

  ioctl<N extends keyof Commands>(fd: number, command: N, arg: Commands[N]): ErrnoName | null {
    this.enter();
    return errnoOf(() => ioctl(this.world.kernel, fd, command, arg));
  }

  ioas(iommufd: number): number {
    return this.process.ioas(iommufd);
  }
  destroy(iommufd: number, id: number): ErrnoName | null {
    return this.ioctl(iommufd, 'IOMMU_DESTROY', { id });
  }
  map(iommufd: number, ioasId: number, iova: bigint | number, userVa: bigint, length: bigint | number = page, flags: number = fixed): ErrnoName | null {
    return this.ioctl(iommufd, 'IOMMU_IOAS_MAP', { flags, ioasId, userVa, length: BigInt(length), iova: BigInt(iova) });
  }
  /** The iova that the kernel chose, or the errno. */
  place(iommufd: number, ioasId: number, userVa: bigint, length: bigint | number): bigint | ErrnoName {
    const arg: IoasMap = { flags: readWrite, ioasId, userVa, length: BigInt(length), iova: 0n };
    return this.ioctl(iommufd, 'IOMMU_IOAS_MAP', arg) ?? arg.iova;
  }
  /** The bytes removed, or the errno. */
  unmap(iommufd: number, ioasId: number, iova: bigint | number, length: bigint | number): bigint | ErrnoName {
    const arg = { ioasId, iova: BigInt(iova), length: BigInt(length) };
    return this.ioctl(iommufd, 'IOMMU_IOAS_UNMAP', arg) ?? arg.length;
  }
  allow(iommufd: number, ioasId: number, ...ranges: [bigint, bigint][]): ErrnoName | null {
    return this.ioctl(iommufd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId, ranges });
  }
  ranges(iommufd: number, ioasId: number): { ranges: [bigint, bigint][]; alignment: bigint } {
    const arg = { ioasId, numIovas: 8, ranges: [] as [bigint, bigint][], outIovaAlignment: 0n };
    const errno = this.ioctl(iommufd, 'IOMMU_IOAS_IOVA_RANGES', arg);
    if (errno !== null) throw new Error(errno);
    return { ranges: arg.ranges, alignment: arg.outIovaAlignment };
  }

  openVfio(vfio: number): number {
    return this.open(`/dev/vfio/devices/vfio${vfio}`);
  }
  /** The device id, or the errno. */
  bindTo(vfioFd: number, iommufd: number): number | ErrnoName {
    const arg = { argsz: 24, flags: 0, iommufd, outDevid: 0 };
    return this.ioctl(vfioFd, 'VFIO_DEVICE_BIND_IOMMUFD', arg) ?? arg.outDevid;
  }
  /** The id of the HWPT in force, or the errno. */
  attach(vfioFd: number, ptId: number): number | ErrnoName {
    const arg = { argsz: 16, flags: 0, ptId };
    const errno = this.ioctl(vfioFd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', arg);
    if (errno !== null && arg.ptId !== ptId) throw new Error('a failed attach wrote pt_id');
    return errno ?? arg.ptId;
  }
  detach(vfioFd: number): ErrnoName | null {
    return this.ioctl(vfioFd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 });
  }

  ledger(): Ledger {
    const { host } = this.world;
    return { objects: liveObjects(host.kernel), frames: host.frames.inUse, pinned: Process.pinnedPages.peek(host.kernel, this.process.ref) };
  }

  dma(name: string): DmaEngine {
    return new Machine(this.world.host).dma(this.world.directory[name] as Ref<'PciFunction'>);
  }
  /** The word that the device finds at the iova, or the unit's fault reason as text. */
  sees(name: string, iova: number): number | string {
    const engine = this.dma(name);
    const reason = engine.read(Math.floor(iova / 2 ** 32), iova | 0, 64);
    return reason === 0 ? engine.bufferWord(0) : `fault ${reason}`;
  }
}
