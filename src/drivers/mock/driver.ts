/**
 * The driver of the selftest's world (`mock_ops` of drivers/iommu/iommufd/selftest.c): page tables of 2 KiB pages in RAM, devices
 * without hardware, and no cache of any kind, so that nothing has to be invalidated. Where functions are behind a mock unit, which is of this
 * model alone, their DMA goes through the same tables, and who changes something waits for what is in flight.
 */
import { silent } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, pageShift, type Frame } from '#hostmem/memory';
import type { Engine } from '#hostmem/engine';
import { NULL, type Ref } from '#hostmem/object';
import { PageTable, WalkFault, WalkResult } from '#hostmem/page-table';
import { dma, DmaFlags } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import { DIRTY, doubledHigh, doubledLow, HALF, HALF_BIT, minorPageBits, mockFormat } from '../../hardware/mock/format.ts';
import { fence, fenceAll } from '../../hardware/mock/unit.ts';
import { Hitless, IommuUnit } from '../../hardware/unit.ts';
import { allocated, assert, fail, type ErrnoName } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain } from '../domain.ts';
import {
  DomainFlags, formatId, type AttachError, type DirtyRanges, type DriverData, type DriverViommu, type HwInfo, type Invalidations,
  type IommuDriver, type MapError, type ReservedRegion,
} from '../driver.ts';
import { cacheWords, firstCacheWord, MockDevice, mockDeviceOf, MockDeviceFlag, MockIommu, pasidBits } from './device.ts';
import { checkDataLength, createNested, freeNested, invalidateNested, MockNested, nestedOf, selftestData, wordAt } from './nested.ts';
import { addHwQueue, addVdevice, createViommu, destroyViommu, hasVdevice, invalidateCaches, MockViommu, removeVdevice, viommuType } from './viommu.ts';


/** IOMMU_HW_INFO_TYPE_SELFTEST. */
const selftestHwInfo = 0xfeedbeef;
/** IOMMU_HW_INFO_SELFTEST_REGVAL. */
const hwInfoRegister = 0xdeadbeef;
/** Generic capabilities: dirty tracking, execute and privileged mode with PASIDs, no ATS. */
const Capability = { DIRTY: 1, ATS_NOT_SUPPORTED: 8 } as const;
/** `pagetable_type` of the user's data. */
const TableType = { DEFAULT: 0, HUGE: 1 } as const;
/** What the default table lets a user map; the huge one has all of its 56 bits. */
/** `IommuDomain.dirtyTracking`. */
const TrackingState = { POSSIBLE: 1, ENABLED: 2 } as const;
const firstIova = 0x1000000;
const lastIova = 0x7fffffff;
const widestHigh = 0xffffff;
/** Sizes of leaves: every power of two from 2 KiB to 64 GiB; or 4 KiB and 1 MiB. */
const defaultSizes = 0x1ffffff800n;
const hugeSizes = 0x101000n;
const hugePage = 0x100000n;
/** The PASID whose second attach in a row fails. */
const failingPasid = 1024;
const minorPage = 1 << minorPageBits;
const PAGE = BigInt(pageBytes);

export class MockDriver implements IommuDriver {
  readonly blockedDomain: Ref<'IommuDomain'>;
  readonly identityDomain: Ref<'IommuDomain'>;
  readonly #host: Host;
  readonly #table: PageTable;
  readonly #found = new WalkResult();

  /** Joins the mock IOMMU that `boot` set up. */
  constructor(host: Host) {
    this.#host = host;
    this.#table = new PageTable(host.ram, host.frames, mockFormat);
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
    return this.#createDomain(flags, TableType.DEFAULT);
  }

  /** EOPNOTSUPP for another type of data, or of page tables; EINVAL for too little or too much data. */
  allocPagingWithData(pciFunction: Ref<'PciFunction'>, flags: number, data: DriverData): Ref<'IommuDomain'> {
    this.#checkFlags(pciFunction, flags);
    if (data.type !== selftestData) fail('EOPNOTSUPP', `the mock IOMMU has no data of type 0x${data.type.toString(16)}`);
    checkDataLength(data.bytes);
    const tableType = wordAt(data.bytes, 4);
    return tableType <= TableType.HUGE ? this.#createDomain(flags, tableType) : fail('EOPNOTSUPP', `page tables of type ${tableType}`);
  }

  #createDomain(flags: number, tableType: number): Ref<'IommuDomain'> {
    const memory = this.#host.kernel;
    const root = this.#table.create();
    if (root === 0) fail('ENOMEM', 'no frame for a page table');
    const domain = IommuDomain.tryCreate(memory);
    if (domain === NULL) this.#host.frames.drop(root);
    IommuDomain.kind.poke(memory, allocated(domain), DomainKind.PAGING);
    IommuDomain.driver.poke(memory, domain, DriverKind.MOCK);
    IommuDomain.format.poke(memory, domain, formatId(mockFormat));
    IommuDomain.levels.poke(memory, domain, mockFormat.levels);
    IommuDomain.root.poke(memory, domain, root);
    IommuDomain.largestLeaf.poke(memory, domain, 1);
    IommuDomain.dirtyTracking.poke(memory, domain, (flags & DomainFlags.DIRTY_TRACKING) === 0 ? 0 : TrackingState.POSSIBLE);
    const huge = tableType === TableType.HUGE;
    IommuDomain.smallestPageBits.poke(memory, domain, huge ? pageShift : minorPageBits);
    IommuDomain.pageSizes.pokeBig(memory, domain, huge ? hugeSizes : defaultSizes);
    IommuDomain.apertureFirstLow.poke(memory, domain, huge ? 0 : firstIova);
    IommuDomain.apertureLastHigh.poke(memory, domain, huge ? widestHigh : 0);
    IommuDomain.apertureLastLow.poke(memory, domain, huge ? -1 : lastIova);
    return domain;
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
    this.#table.destroy(IommuDomain.root.peek(memory, domain));
    IommuDomain.free(memory, domain);
  }

  /** EINVAL where the domain tracks dirty pages and the device cannot, ENOENT where a device has no number inside the domain's vIOMMU. */
  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const memory = this.#host.kernel;
    const device = mockDeviceOf(this.#host.kernel, pciFunction);
    if (IommuDomain.dirtyTracking.peek(memory, domain) !== 0 && !this.#tracksDirty(pciFunction)) return 'EINVAL';
    if (this.#isStranger(domain, pciFunction)) return 'ENOENT';
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

  #isStranger(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): boolean {
    const memory = this.#host.kernel;
    if (IommuDomain.kind.peek(memory, domain) !== DomainKind.NESTED) return false;
    const viommu = MockNested.viommu.peek(memory, nestedOf(memory, domain));
    return viommu !== NULL && !hasVdevice(memory, viommu, pciFunction);
  }

  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    return this.mapBytes(domain, big(iovaHigh, iovaLow), hpaOf(frame), pages * 4096, permissions);
  }

  unmap(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): number {
    return this.#clear(domain, big(iovaHigh, iovaLow), BigInt(pages) * 4096n) >>> 1;
  }

  /** No unit caches anything, but a request may have read the tables before they changed. */
  sync(): void {
    fenceAll(this.#host.kernel, MockIommu.unit.peek(this.#host.kernel, this.#host.driver as Ref<'MockIommu'>));
  }

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    const root = IommuDomain.root.peek(this.#host.kernel, domain);
    const fault = this.#table.translate(root, doubledHigh(iovaHigh, iovaLow), doubledLow(iovaLow), result);
    result.frame = (result.frame >>> 1) as Frame;
    return fault;
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

  /** Leaves of 2 KiB, and of 4 KiB where both ends are aligned to that; those that were made go again on an error. */
  mapBytes(domain: Ref<'IommuDomain'>, iova: bigint, hpa: number, bytes: number, permissions: number): 0 | MapError {
    if (iova % BigInt(minorPage) !== 0n || hpa % minorPage !== 0 || bytes % minorPage !== 0) return 'EINVAL';
    const root = IommuDomain.root.peek(this.#host.kernel, domain);
    for (let done = 0; done < bytes; done += minorPage) {
      const seen = doubled(iova + BigInt(done));
      const half = isHalf(iova, hpa, bytes, done) ? HALF : 0;
      const error = this.#table.mapPage(root, high(seen), low(seen), ((hpa + done) / minorPage) as Frame, permissions | half);
      if (error === 0) continue;
      if (done > 0) this.unmapBytes(domain, iova, BigInt(done));
      return error;
    }
    return 0;
  }

  unmapBytes(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint): void {
    this.#clear(domain, iova, bytes);
    this.sync();
  }

  /** Returns how many pages of the unit were mapped. */
  #clear(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint): number {
    const seen = doubled(iova);
    return this.#table.unmap(IommuDomain.root.peek(this.#host.kernel, domain), high(seen), low(seen), Number(bytes) / minorPage);
  }

  iovaToPhys(domain: Ref<'IommuDomain'>, iova: bigint): number {
    return this.#find(domain, iova) ? this.#found.frame * minorPage + Number(iova % BigInt(minorPage)) : -1;
  }

  /** Whether there is a leaf; it is in `#found` then. */
  #find(domain: Ref<'IommuDomain'>, iova: bigint): boolean {
    const seen = doubled(iova);
    return this.#table.translate(IommuDomain.root.peek(this.#host.kernel, domain), high(seen), low(seen), this.#found) === WalkFault.NONE;
  }

  /** What is dirty when tracking begins was written before (`mock_domain_set_dirty_tracking`). */
  setDirtyTracking(domain: Ref<'IommuDomain'>, enabled: boolean): 0 | 'EINVAL' {
    if (IommuDomain.dirtyTracking.peek(this.#host.kernel, domain) === 0) return 'EINVAL';
    IommuDomain.dirtyTracking.poke(this.#host.kernel, domain, enabled ? TrackingState.ENABLED : TrackingState.POSSIBLE);
    return 0;
  }

  /**
   * A leaf of 4 KiB is two entries of 2 KiB, and 7.2 reports one less of them than there are (`record_dirty` of generic_pt: the index of the
   * last entry counts as their number), so that only a query by 2 KiB sees a difference.
   */
  readAndClearDirty(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint, clear: boolean, found: DirtyRanges): 0 {
    const end = iova + bytes;
    for (let at = iova; at < end; ) {
      const isLeaf = this.#find(domain, at);
      const halved = isLeaf && (this.#found.entryLow & HALF_BIT) !== 0 && !this.#isHuge(domain);
      const first = halved ? at - (at % PAGE) : at;
      const next = first + (halved ? PAGE : BigInt(minorPage));
      if (isLeaf && this.#takeDirt(domain, first, next, clear)) addRange(found, at, halved && next <= end ? next - BigInt(minorPage) : next < end ? next : end);
      at = next;
    }
    return 0;
  }

  /** Whether a leaf, which is the entries of `[first, end)`, was written. */
  #takeDirt(domain: Ref<'IommuDomain'>, first: bigint, end: bigint, clear: boolean): boolean {
    let dirty = false;
    for (let at = first; at < end; at += BigInt(minorPage)) {
      if (!this.#find(domain, at) || (this.#found.entryLow & DIRTY) === 0) continue;
      dirty = true;
      if (clear) this.#changeFound(~DIRTY, 0);
    }
    return dirty;
  }

  #isHuge(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.smallestPageBits.peek(this.#host.kernel, domain) === pageShift;
  }

  tracksWrites(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.dirtyTracking.peek(this.#host.kernel, domain) === TrackingState.ENABLED;
  }

  /** What a device's write does to the leaf at an IOVA (`pt_set_dirty`), which in the huge table is one of 1 MiB. */
  markWritten(domain: Ref<'IommuDomain'>, iova: bigint): void {
    const huge = this.#isHuge(domain);
    const first = huge ? iova - (iova % hugePage) : iova;
    const begin = this.#host.kernel.history?.stamp() ?? 0;
    const frame = this.#find(domain, iova) ? ((this.#found.frame >>> 1) as Frame) : (0 as Frame);
    const owner = frame === 0 ? 0 : this.#host.frames.ownerOf(frame);
    let reached = false;
    for (let at = first; at === iova || (huge && at < first + hugePage); at += BigInt(minorPage)) {
      const marked = this.#find(domain, at) && this.#changeFound(-1, DIRTY);
      if (at === iova) reached = marked;
    }
    if (reached) this.#tellWrite(domain, iova, frame, owner, begin);
  }

  /** Keeps and sets bits of the leaf found last, as one step; false when it is gone by now. */
  #changeFound(keep: number, set: number): boolean {
    const { entryAt, entryLow } = this.#found;
    for (let seen = entryLow; (seen & 1) !== 0; ) {
      const before = silent.compareExchange(this.#host.ram, entryAt, seen, (seen & keep) | set);
      if (before === seen) return true;
      seen = before;
    }
    return false;
  }

  /** The write as any device's, of a function without a requester id. */
  #tellWrite(domain: Ref<'IommuDomain'>, iova: bigint, frame: Frame, owner: number, begin: number): void {
    const { kernel } = this.#host;
    const where = (low(iova) & ~(2 ** pageShift - 1)) | (owner & DmaFlags.ownerMask);
    dma.emit(kernel, DmaFlags.WRITE, high(iova), where, frame, IommuDomain.root.peek(kernel, domain), begin);
  }

  allocNestedDomain(_pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, flags: number, data: DriverData): Ref<'IommuDomain'> {
    return createNested(this.#host.kernel, parent, NULL, flags, data);
  }

  invalidateNested(domain: Ref<'IommuDomain'>, asked: Invalidations): 0 | ErrnoName {
    return invalidateNested(this.#host.kernel, domain, asked);
  }

  hasViommu(_pciFunction: Ref<'PciFunction'>, type: number): boolean {
    return type === viommuType;
  }

  viommuInit(_pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, data: DriverData): DriverViommu {
    return createViommu(this.#host, parent, data.bytes);
  }

  viommuDestroy(viommu: number): void {
    destroyViommu(this.#host, viommu as Ref<'MockViommu'>);
  }

  viommuAllocNested(viommu: number, flags: number, data: DriverData): Ref<'IommuDomain'> {
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

/** Whether the entry for byte `done` of a mapping is a half of a leaf of 4 KiB. */
function isHalf(iova: bigint, hpa: number, bytes: number, done: number): boolean {
  const offset = Number((iova + BigInt(done)) % PAGE);
  return (hpa + done) % pageBytes === offset && done >= offset && bytes - done + offset >= pageBytes;
}

function addRange(found: DirtyRanges, start: bigint, end: bigint): void {
  if (start >= end) return;
  found.iovas.push(start);
  found.lengths.push(end - start);
}

const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
const low = (value: bigint): number => Number(BigInt.asIntN(32, value));
const big = (highWord: number, lowWord: number): bigint => (BigInt(highWord >>> 0) << 32n) | BigInt(lowWord >>> 0);

/** An IOVA as the walker sees it (`format.ts`). */
const doubled = (iova: bigint): bigint => iova << 1n;
