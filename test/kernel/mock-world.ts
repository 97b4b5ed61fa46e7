/** A host with the mock IOMMU, one process with an iommufd, and the selftest's operations: what tests of a process's memory share. */
import { Host } from '#hostmem/host';
import { liveObjects, type Ref } from '#hostmem/object';
import { MockDriver } from '#src/drivers/mock/driver';
import { User } from '#src/kernel/accounting';
import { readBytes, writeBytes } from '#src/kernel/bytes';
import type { ErrnoName } from '#src/kernel/errno';
import { getFile, putFile } from '#src/kernel/file';
import { File } from '#src/kernel/open-file';
import { Hwpt } from '#src/kernel/hwpt';
import { Kernel, KernelRoot } from '#src/kernel/kernel';
import { createMemfd, truncateMemfd } from '#src/kernel/memfd';
import { Iommufd, IommufdObject, type ObjectRef } from '#src/kernel/objects';
import { linux72 } from '#src/kernel/operations';
import { createProcess, mmap, Process, userAddress } from '#src/kernel/process';
import { testIoctl, type TestCommands } from '#src/kernel/selftest/commands';
import { close, ioctl, open, type Commands } from '#src/kernel/syscalls';
import { errnoOf, page, readWrite } from './vmm.ts';

/** What a default domain of the mock can map. */
export const firstIova = 0x1000000n;
const lastIova = 0x7fffffffn;

export class MockWorld {
  readonly host = Host.create(8 << 20, 8 << 20);
  readonly kernel: Kernel;
  readonly driver: MockDriver;
  readonly process: Ref<'Process'>;
  readonly fd: number;
  readonly ioasId: number;

  constructor() {
    MockDriver.boot(this.host);
    this.host.kernelRoot = KernelRoot.create(this.host.kernel);
    this.driver = new MockDriver(this.host);
    this.kernel = new Kernel(this.host, linux72, this.driver);
    this.process = createProcess(this.kernel, 1);
    this.kernel.enter(this.process);
    this.fd = this.openIommufd();
    this.ioasId = this.ioas();
  }

  ioctl<N extends keyof Commands>(command: N, arg: Commands[N], fd: number = this.fd): ErrnoName | null {
    return errnoOf(() => ioctl(this.kernel, fd, command, arg));
  }
  /** What the call returns, or the errno. */
  test<N extends keyof TestCommands>(command: N, arg: TestCommands[N], fd: number = this.fd): number | ErrnoName {
    let result = 0;
    return errnoOf(() => (result = testIoctl(this.kernel, fd, command, arg))) ?? result;
  }
  openIommufd(): number {
    return open(this.kernel, '/dev/iommu');
  }

  /** Its automatic iovas fit a default domain, whether one is there yet or not. */
  ioas(fd: number = this.fd): number {
    const arg = { flags: 0, outIoasId: 0 };
    ioctl(this.kernel, fd, 'IOMMU_IOAS_ALLOC', arg);
    ioctl(this.kernel, fd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId: arg.outIoasId, ranges: [[firstIova, lastIova]] });
    return arg.outIoasId;
  }
  /** A mock device on an IOAS or HWPT. */
  device(id: number = this.ioasId, deviceFlags: number = 0, fd: number = this.fd): { stdev: number; idev: number; hwpt: number } | ErrnoName {
    const arg = { id, deviceFlags, outStdevId: 0, outHwptId: 0, outIdevId: 0 };
    const result = this.test('IOMMU_TEST_MOCK_DOMAIN_FLAGS', arg, fd);
    return typeof result === 'string' ? result : { stdev: arg.outStdevId, idev: arg.outIdevId, hwpt: arg.outHwptId };
  }
  /** An HWPT for a device, on top of an IOAS or another HWPT. */
  hwpt(devId: number, flags: number = 0, ptId: number = this.ioasId, data?: Uint8Array): number | ErrnoName {
    const given = data === undefined ? {} : { data };
    const arg = { flags, devId, ptId, dataType: data === undefined ? 0 : 0xdead, dataLength: data?.length ?? 0, outHwptId: 0, ...given };
    return this.ioctl('IOMMU_HWPT_ALLOC', arg) ?? arg.outHwptId;
  }
  /** The domain behind an HWPT's id. */
  domain(hwptId: number): Ref<'IommuDomain'> {
    const { memory } = this.kernel;
    const file = getFile(this.kernel, this.fd);
    const header = Iommufd.objects.get(memory, File.body.peek(memory, file) as Ref<'Iommufd'>, hwptId) as ObjectRef;
    putFile(this.kernel, file);
    return Hwpt.domain.peek(memory, IommufdObject.body.peek(memory, header) as Ref<'Hwpt'>);
  }
  destroy(id: number): ErrnoName | null {
    return this.ioctl('IOMMU_DESTROY', { id });
  }

  memory(pages: number = 1): bigint {
    return mmap(this.kernel, this.kernel.process, pages * page, true, null);
  }
  memfd(pages: number): number {
    const fd = createMemfd(this.kernel, false);
    truncateMemfd(this.kernel, fd, pages * page);
    return fd;
  }
  close(fd: number): void {
    close(this.kernel, fd);
  }

  /** The iova, or the errno. */
  map(userVa: bigint, pages: number = 1, ioasId: number = this.ioasId, fd: number = this.fd): bigint | ErrnoName {
    const arg = { flags: readWrite, ioasId, userVa, length: BigInt(pages * page), iova: 0n };
    return this.ioctl('IOMMU_IOAS_MAP', arg, fd) ?? arg.iova;
  }
  mapFile(fd: number, length: bigint | number, start: bigint | number = 0, flags: number = readWrite, ioasId: number = this.ioasId): bigint | ErrnoName {
    const arg = { flags, ioasId, fd, start: BigInt(start), length: BigInt(length), iova: 0n };
    return this.ioctl('IOMMU_IOAS_MAP_FILE', arg) ?? arg.iova;
  }
  unmap(iova: bigint, pages: number, ioasId: number = this.ioasId): bigint | ErrnoName {
    const arg = { ioasId, iova, length: BigInt(pages * page) };
    return this.ioctl('IOMMU_IOAS_UNMAP', arg) ?? arg.length;
  }
  copy(srcIova: bigint, pages: number, dstIoasId: number, srcIoasId: number = this.ioasId): bigint | ErrnoName {
    const arg = { flags: readWrite, dstIoasId, srcIoasId, length: BigInt(pages * page), dstIova: 0n, srcIova };
    return this.ioctl('IOMMU_IOAS_COPY', arg) ?? arg.dstIova;
  }
  changeProcess(): ErrnoName | null {
    return this.ioctl('IOMMU_IOAS_CHANGE_PROCESS', {});
  }

  /** Takes a capability from the calling process. */
  dropCapability(bit: number): void {
    const { memory, process } = this.kernel;
    Process.capabilities.poke(memory, process, Process.capabilities.peek(memory, process) & ~(1 << bit));
  }
  limitPages(pages: number): void {
    Process.lockLimitPages.poke(this.kernel.memory, this.kernel.process, pages);
  }
  /** Pages: VmPin and VmLck of a process, and what its user has locked. */
  accounts(process: Ref<'Process'> = this.kernel.process): { pin: number; lck: number; user: number } {
    const { memory } = this.kernel;
    return {
      pin: Process.pinnedPages.peek(memory, process), lck: Process.lockedPages.peek(memory, process),
      user: User.lockedPages.peek(memory, Process.user.peek(memory, process)),
    };
  }

  store(va: bigint, ...bytes: number[]): void {
    writeBytes(this.host.ram, userAddress(this.kernel, this.kernel.process, va), Uint8Array.from(bytes));
  }
  load(va: bigint, count: number = 1): number[] {
    const bytes = new Uint8Array(count);
    readBytes(this.host.ram, userAddress(this.kernel, this.kernel.process, va), bytes);
    return [...bytes];
  }

  /** What no call that fails leaves behind. */
  ledger(): object {
    return { objects: liveObjects(this.host.kernel), frames: this.host.frames.inUse, ...this.accounts() };
  }
}
