/**
 * The driver of the selftest's world (`mock_ops` of drivers/iommu/iommufd/selftest.c): page tables of 2 KiB pages in RAM, devices
 * without hardware, and no cache of any kind, so that nothing has to be invalidated. Where functions are behind a mock unit, which is of this
 * model alone, their DMA goes through the same tables, and who changes something waits for what is in flight.
 */
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, type Frame } from '#hostmem/memory';
import type { Engine } from '#hostmem/engine';
import { NULL, type Ref } from '#hostmem/object';
import type { WalkResult } from '#hostmem/page-walk';
import { PciFunction } from '../../hardware/function.ts';
import { fence, fenceAll } from '../../hardware/mock/unit.ts';
import { Hitless, IommuUnit } from '../../hardware/unit.ts';
import { assert, fail, type ErrnoName } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain } from '../domain.ts';
import {
  DomainFlags, type AttachError, type DirtyRanges, type UserData, type DriverViommu, type HwInfo, type Invalidations,
  type IommuDriver, type MapError, type ReservedRegion,
} from '../driver.ts';
import { cacheWords, firstCacheWord, MockDevice, mockDeviceOf, MockDeviceFlag, MockIommu, pasidBits } from './device.ts';
import { MockDomains, TableType } from './domains.ts';
import { copyHwptData, createNested, freeNested, invalidateNested, MockNested, nestedOf, selftestData, wordAt } from './nested.ts';
import { addHwQueue, addVdevice, createViommu, destroyViommu, invalidateCaches, MockViommu, removeVdevice, viommuType, virtIdOf } from './viommu.ts';

/** IOMMU_HW_INFO_TYPE_SELFTEST. */
const selftestHwInfo = 0xfeedbeef;
/** IOMMU_HW_INFO_SELFTEST_REGVAL. */
const hwInfoRegister = 0xdeadbeef;
/** Generic capabilities: dirty tracking, execute and privileged mode with PASIDs, no ATS. */
const Capability = { DIRTY: 1, ATS_NOT_SUPPORTED: 8 } as const;
/** The PASID whose second attach in a row fails. */
const failingPasid = 1024;
const PAGE = BigInt(pageBytes);

export class MockDriver implements IommuDriver {
  readonly blockedDomain: Ref<'IommuDomain'>;
  readonly identityDomain: Ref<'IommuDomain'>;
  readonly #host: Host;
  readonly #domains: MockDomains;

  /** Joins the mock IOMMU that `boot` set up. */
  constructor(host: Host) {
    this.#host = host;
    this.#domains = new MockDomains(host);
    this.blockedDomain = MockIommu.blockedDomain.peek(host.kernel, host.driver as Ref<'MockIommu'>);
    // A mock device never translates one to one.
    this.identityDomain = this.blockedDomain;
  }

  /** Sets the mock IOMMU up, once in the life of a host that has no other. */
  static boot(host: Host, unit: Ref<'IommuUnit'> = NULL): void {
    const memory = host.kernel;
    const blocked = IommuDomain.create(memory);
    IommuDomain.kind.poke(memory, blocked, DomainKind.BLOCKED);
    IommuDomain.driver.poke(memory, blocked, DriverKind.MOCK);
    const iommu = MockIommu.create(memory);
    MockIommu.blockedDomain.poke(memory, iommu, blocked);
    MockIommu.unit.poke(memory, iommu, unit);
    // A replace writes one register.
    for (let at = unit; at !== NULL; at = IommuUnit.next.peek(memory, at)) IommuUnit.hitless.poke(memory, at, Hitless.ALWAYS);
    host.driver = iommu;
  }

  engines(): readonly Engine[] {
    return [];
  }

  /** `PciFunction.driverData` is the `MockDevice` that whoever made the function put there; one that is behind a unit gets its own. */
  probe(pciFunction: Ref<'PciFunction'>): void {
    const memory = this.#host.kernel;
    if (mockDeviceOf(memory, pciFunction) === NULL) PciFunction.driverData.poke(memory, pciFunction, MockDevice.create(memory));
    const device = mockDeviceOf(this.#host.kernel, pciFunction);
    for (let word = 0; word < cacheWords; word++) MockDevice.cache.set(memory, device, word, firstCacheWord);
    MockDevice.domain.poke(memory, device, this.blockedDomain);
  }

  release(pciFunction: Ref<'PciFunction'>): void {
    MockDevice.domain.poke(this.#host.kernel, mockDeviceOf(this.#host.kernel, pciFunction), this.blockedDomain);
  }

  allocPagingDomain(pciFunction: Ref<'PciFunction'>, flags: number): Ref<'IommuDomain'> {
    this.#checkFlags(pciFunction, flags);
    return this.#domains.create(flags, TableType.DEFAULT);
  }

  /** EOPNOTSUPP for another type of data, or of page tables; EINVAL for too little or too much data. */
  allocPagingWithData(pciFunction: Ref<'PciFunction'>, flags: number, data: UserData): Ref<'IommuDomain'> {
    this.#checkFlags(pciFunction, flags);
    if (data.type !== selftestData) fail('EOPNOTSUPP', `the mock IOMMU has no data of type 0x${data.type.toString(16)}`);
    const tableType = wordAt(copyHwptData(data), 4);
    return tableType <= TableType.HUGE ? this.#domains.create(flags, tableType) : fail('EOPNOTSUPP', `page tables of type ${tableType}`);
  }

  /** EOPNOTSUPP for what the selftest's driver does not know, or the device cannot do. */
  #checkFlags(pciFunction: Ref<'PciFunction'>, flags: number): void {
    const known = DomainFlags.NEST_PARENT | DomainFlags.DIRTY_TRACKING | DomainFlags.PASID;
    if ((flags & ~known) !== 0) fail('EOPNOTSUPP', `the mock IOMMU has no domains of flags 0x${flags.toString(16)}`);
    if ((flags & DomainFlags.DIRTY_TRACKING) !== 0 && !this.#tracksDirty(pciFunction)) fail('EOPNOTSUPP', 'the device cannot track dirty pages');
  }

  #tracksDirty(pciFunction: Ref<'PciFunction'>): boolean {
    return (MockDevice.flags.peek(this.#host.kernel, mockDeviceOf(this.#host.kernel, pciFunction)) & MockDeviceFlag.NO_DIRTY) === 0;
  }

  freeDomain(domain: Ref<'IommuDomain'>): void {
    const memory = this.#host.kernel;
    if (IommuDomain.kind.peek(memory, domain) === DomainKind.NESTED) {
      freeNested(memory, domain);
      return;
    }
    assert(domain !== this.blockedDomain, 'the blocking domain is never freed');
    this.#domains.free(domain);
  }

  /** EINVAL where the domain tracks dirty pages and the device cannot, ENOENT where a device has no number inside the domain's vIOMMU. */
  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const memory = this.#host.kernel;
    const device = mockDeviceOf(this.#host.kernel, pciFunction);
    if (IommuDomain.dirtyTracking.peek(memory, domain) !== 0 && !this.#tracksDirty(pciFunction)) return 'EINVAL';
    if (!this.#enterViommu(domain, pciFunction, device)) return 'ENOENT';
    MockDevice.domain.poke(memory, device, domain);
    if (PciFunction.unit.peek(memory, pciFunction) !== NULL) this.#program(pciFunction, domain);
    return 0;
  }

  /** On return the function reaches what the domain maps, and nothing through what it had before. Blocking and nested domains have no tables of their own. */
  #program(pciFunction: Ref<'PciFunction'>, domain: Ref<'IommuDomain'>): void {
    const memory = this.#host.kernel;
    PciFunction.mockRoot.store(memory, pciFunction, IommuDomain.root.peek(memory, domain));
    fence(memory, pciFunction);
  }

  /** Notes the vIOMMU that a domain was made through, if that is another than before, and the device's number there. False where it has none. */
  #enterViommu(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>, device: Ref<'MockDevice'>): boolean {
    const memory = this.#host.kernel;
    const isNested = IommuDomain.kind.peek(memory, domain) === DomainKind.NESTED;
    const viommu = isNested ? MockNested.viommu.peek(memory, nestedOf(memory, domain)) : NULL;
    const virtId = viommu === NULL ? 0n : virtIdOf(memory, viommu, pciFunction);
    if (virtId === null) return false;
    const known = viommu === NULL ? 0 : MockViommu.known.peek(memory, viommu);
    if (known === MockDevice.viommu.peek(memory, device)) return true;
    MockDevice.viommuRwsem.acquireWrite(memory, device);
    MockDevice.viommu.write(memory, device, known);
    MockDevice.virtId.pokeBig(memory, device, virtId);
    MockDevice.viommuRwsem.releaseWrite(memory, device);
    return true;
  }

  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    return this.mapBytes(domain, big(iovaHigh, iovaLow), hpaOf(frame), pages * pageBytes, permissions);
  }

  unmap(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): number {
    return this.#domains.clear(domain, big(iovaHigh, iovaLow), BigInt(pages) * PAGE) >>> 1;
  }

  /** No unit caches anything, but a request may have read the tables before they changed. */
  sync(): void {
    fenceAll(this.#host.kernel, MockIommu.unit.peek(this.#host.kernel, this.#host.driver as Ref<'MockIommu'>));
  }

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    return this.#domains.translate(domain, iovaHigh, iovaLow, result);
  }

  hwInfo(pciFunction: Ref<'PciFunction'>): HwInfo {
    const flags = MockDevice.flags.peek(this.#host.kernel, mockDeviceOf(this.#host.kernel, pciFunction));
    const tracks = this.#tracksDirty(pciFunction);
    return {
      type: selftestHwInfo, flags: 0, register: hwInfoRegister, words: [], capabilities: Capability.ATS_NOT_SUPPORTED | (tracks ? Capability.DIRTY : 0),
      maxPasidLog2: (flags & MockDeviceFlag.PASID) === 0 ? 0 : pasidBits,
    };
  }

  reservedRegions(): readonly ReservedRegion[] {
    return [];
  }

  mapBytes(domain: Ref<'IommuDomain'>, iova: bigint, hpa: number, bytes: number, permissions: number): 0 | MapError {
    const error = this.#domains.mapBytes(domain, iova, hpa, bytes, permissions);
    // What was made of it is gone again; somebody may have read it.
    if (error !== 0) this.sync();
    return error;
  }

  unmapBytes(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint): void {
    this.#domains.clear(domain, iova, bytes);
    this.sync();
  }

  iovaToPhys(domain: Ref<'IommuDomain'>, iova: bigint): number {
    return this.#domains.iovaToPhys(domain, iova);
  }

  /** What is dirty when tracking begins was written before (`mock_domain_set_dirty_tracking`). */
  setDirtyTracking(domain: Ref<'IommuDomain'>, enabled: boolean): 0 | 'EINVAL' {
    return this.#domains.setTracking(domain, enabled) ? 0 : 'EINVAL';
  }

  readAndClearDirty(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint, clear: boolean, found: DirtyRanges): 0 {
    this.#domains.takeDirty(domain, iova, bytes, clear, found);
    return 0;
  }

  tracksWrites(domain: Ref<'IommuDomain'>): boolean {
    return this.#domains.tracksWrites(domain);
  }

  markWritten(domain: Ref<'IommuDomain'>, iova: bigint): void {
    this.#domains.markWritten(domain, iova);
  }

  allocNestedDomain(_pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, flags: number, data: UserData): Ref<'IommuDomain'> {
    return createNested(this.#host.kernel, parent, NULL, flags, data);
  }

  invalidateNested(domain: Ref<'IommuDomain'>, asked: Invalidations): 0 | ErrnoName {
    return invalidateNested(this.#host.kernel, domain, asked);
  }

  hasViommu(_pciFunction: Ref<'PciFunction'>, type: number): boolean {
    return type === viommuType;
  }

  viommuInit(_pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, data: UserData, viommu: number): DriverViommu {
    return createViommu(this.#host, parent, data, viommu);
  }

  viommuDestroy(viommu: number): void {
    destroyViommu(this.#host, viommu as Ref<'MockViommu'>);
  }

  viommuAllocNested(viommu: number, flags: number, data: UserData): Ref<'IommuDomain'> {
    const through = viommu as Ref<'MockViommu'>;
    return createNested(this.#host.kernel, MockViommu.parent.peek(this.#host.kernel, through), through, flags, data);
  }

  viommuInvalidate(viommu: number, asked: Invalidations): 0 | ErrnoName {
    return invalidateCaches(this.#host.kernel, viommu as Ref<'MockViommu'>, asked);
  }

  vdeviceInit(viommu: number, pciFunction: Ref<'PciFunction'>, virtId: bigint): 0 | ErrnoName {
    return addVdevice(this.#host.kernel, viommu as Ref<'MockViommu'>, pciFunction, virtId) ? 0 : 'ENOMEM';
  }

  vdeviceDestroy(viommu: number, pciFunction: Ref<'PciFunction'>): void {
    removeVdevice(this.#host.kernel, viommu as Ref<'MockViommu'>, pciFunction);
  }

  hasHwQueue(_viommu: number, type: number): boolean {
    return type === viommuType;
  }

  hwQueueInit(viommu: number, index: number): 0 | ErrnoName {
    return addHwQueue(this.#host.kernel, viommu as Ref<'MockViommu'>, index);
  }

  hwQueueDestroy(viommu: number, index: number): void {
    const memory = this.#host.kernel;
    const queues = MockViommu.queues.peek(memory, viommu as Ref<'MockViommu'>);
    MockViommu.queues.poke(memory, viommu as Ref<'MockViommu'>, queues & ~(1 << index));
  }

  pasidsOf(pciFunction: Ref<'PciFunction'>): number {
    const flags = MockDevice.flags.peek(this.#host.kernel, mockDeviceOf(this.#host.kernel, pciFunction));
    return (flags & MockDeviceFlag.PASID) === 0 ? 0 : 1 << pasidBits;
  }

  setPasid(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>, pasid: number): 0 | AttachError {
    return pasid === failingPasid ? this.#setFailingPasid(domain, pciFunction) : 0;
  }

  /** The first attach arms the failure, the second meets it, blocking disarms it. */
  #setFailingPasid(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const memory = this.#host.kernel;
    const device = mockDeviceOf(this.#host.kernel, pciFunction);
    const armed = MockDevice.pasidFails.peek(memory, device) !== 0;
    const fails = domain !== this.blockedDomain && armed;
    MockDevice.pasidFails.poke(memory, device, domain === this.blockedDomain || armed ? 0 : 1);
    return fails ? 'ENOMEM' : 0;
  }
}

const big = (highWord: number, lowWord: number): bigint => (BigInt(highWord >>> 0) << 32n) | BigInt(lowWord >>> 0);
