/**
 * The driver of the selftest's world (`mock_ops` of drivers/iommu/iommufd/selftest.c): page tables of 2 KiB pages in RAM, devices
 * without hardware, and no cache of any kind, so that nothing has to be invalidated.
 */
import { Owner } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { hpaOf, pageShift, type Frame } from '#hostmem/memory';
import type { Engine } from '#hostmem/engine';
import { NULL, type Ref } from '#hostmem/object';
import { PageTable, WalkFault, WalkResult } from '#hostmem/page-table';
import { PciFunction } from '../../hardware/function.ts';
import { allocated, assert, fail } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain } from '../domain.ts';
import {
  DomainFlags, formatId, type AttachError, type DomainData, type FinePages, type HwInfo, type IommuDriver, type MapError, type PasidDriver, type ReservedRegion,
} from '../driver.ts';
import { cacheWords, firstCacheWord, MockDevice, MockDeviceFlag, MockIommu, pasidBits } from './device.ts';
import { minorPageBits, mockFormat } from './format.ts';

/** IOMMU_HWPT_DATA_SELFTEST and IOMMU_HW_INFO_TYPE_SELFTEST. */
const selftestData = 0xdead;
const selftestHwInfo = 0xfeedbeef;
/** IOMMU_HW_INFO_SELFTEST_REGVAL. */
const hwInfoRegister = 0xdeadbeef;
/** Generic capabilities: dirty tracking, execute and privileged mode with PASIDs, no ATS. */
const Capability = { DIRTY: 1, ATS_NOT_SUPPORTED: 8 } as const;
/** `pagetable_type` of the user's data. */
const TableType = { DEFAULT: 0, HUGE: 1 } as const;
/** What the default table lets a user map; the huge one has all of its 56 bits. */
const firstIova = 0x1000000;
const lastIova = 0x7fffffff;
const widestHigh = 0xffffff;
/** The PASID whose second attach in a row fails. */
const failingPasid = 1024;
const minorPage = 1 << minorPageBits;

export class MockDriver implements IommuDriver {
  readonly blockedDomain: Ref<'IommuDomain'>;
  readonly identityDomain: Ref<'IommuDomain'>;
  readonly fine: FinePages = this.#finePages();
  readonly pasids: PasidDriver = this.#pasidDriver();
  readonly #host: Host;
  readonly #table: PageTable;
  readonly #found = new WalkResult();

  /** Joins the mock IOMMU that `boot` set up. */
  constructor(host: Host) {
    this.#host = host;
    this.#table = new PageTable(host.ram, host.frames, mockFormat);
    this.blockedDomain = MockIommu.blockedDomain.peek(host.kernel, host.machine as Ref<'MockIommu'>);
    // A mock device never translates one to one.
    this.identityDomain = this.blockedDomain;
  }

  /** Sets the mock IOMMU up, once in the life of a host that has no other. */
  static boot(host: Host): void {
    const memory = host.kernel;
    const blocked = IommuDomain.create(memory);
    IommuDomain.kind.poke(memory, blocked, DomainKind.BLOCKED);
    IommuDomain.driver.poke(memory, blocked, DriverKind.MOCK);
    const iommu = MockIommu.create(memory);
    MockIommu.blockedDomain.poke(memory, iommu, blocked);
    host.machine = iommu;
  }

  engines(): readonly Engine[] {
    return [];
  }

  /** `PciFunction.driverData` is the `MockDevice` that whoever made the function put there. */
  probe(pciFunction: Ref<'PciFunction'>): void {
    const memory = this.#host.kernel;
    const device = deviceOf(this.#host, pciFunction);
    for (let word = 0; word < cacheWords; word++) MockDevice.cache.set(memory, device, word, firstCacheWord);
    MockDevice.domain.poke(memory, device, this.blockedDomain);
  }

  release(pciFunction: Ref<'PciFunction'>): void {
    MockDevice.domain.poke(this.#host.kernel, deviceOf(this.#host, pciFunction), this.blockedDomain);
  }

  allocPagingDomain(pciFunction: Ref<'PciFunction'>, flags: number, data?: DomainData): Ref<'IommuDomain'> {
    const memory = this.#host.kernel;
    const tableType = this.#tableType(pciFunction, flags, data);
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
    IommuDomain.dirtyTracking.poke(memory, domain, (flags & DomainFlags.DIRTY_TRACKING) === 0 ? 0 : 1);
    const huge = tableType === TableType.HUGE;
    IommuDomain.smallestPageBits.poke(memory, domain, huge ? pageShift : minorPageBits);
    IommuDomain.apertureFirstLow.poke(memory, domain, huge ? 0 : firstIova);
    IommuDomain.apertureLastHigh.poke(memory, domain, huge ? widestHigh : 0);
    IommuDomain.apertureLastLow.poke(memory, domain, huge ? -1 : lastIova);
    return domain;
  }

  /** EOPNOTSUPP for what the selftest's driver does not know, or the device cannot do. */
  #tableType(pciFunction: Ref<'PciFunction'>, flags: number, data?: DomainData): number {
    const known = DomainFlags.NEST_PARENT | DomainFlags.DIRTY_TRACKING | DomainFlags.PASID;
    if ((flags & ~known) !== 0) fail('EOPNOTSUPP', `the mock IOMMU has no domains of flags 0x${flags.toString(16)}`);
    const deviceFlags = MockDevice.flags.peek(this.#host.kernel, deviceOf(this.#host, pciFunction));
    const tracks = (deviceFlags & MockDeviceFlag.NO_DIRTY) === 0;
    if ((flags & DomainFlags.DIRTY_TRACKING) !== 0 && !tracks) fail('EOPNOTSUPP', 'the device cannot track dirty pages');
    if (data === undefined) return TableType.DEFAULT;
    if (data.type !== selftestData) fail('EOPNOTSUPP', `the mock IOMMU has no data of type 0x${data.type.toString(16)}`);
    const tableType = wordAt(data.bytes, 4);
    return tableType <= TableType.HUGE ? tableType : fail('EOPNOTSUPP', `page tables of type ${tableType}`);
  }

  freeDomain(domain: Ref<'IommuDomain'>): void {
    const memory = this.#host.kernel;
    assert(domain !== this.blockedDomain, 'the blocking domain is never freed');
    this.#table.destroy(IommuDomain.root.peek(memory, domain));
    IommuDomain.free(memory, domain);
  }

  /** EINVAL where the domain tracks dirty pages and the device cannot. */
  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const memory = this.#host.kernel;
    const device = deviceOf(this.#host, pciFunction);
    const tracks = (MockDevice.flags.peek(memory, device) & MockDeviceFlag.NO_DIRTY) === 0;
    if (IommuDomain.dirtyTracking.peek(memory, domain) !== 0 && !tracks) return 'EINVAL';
    MockDevice.domain.poke(memory, device, domain);
    return 0;
  }

  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    for (let page = 0; page < pages; page++) {
      const [high, low] = later(iovaHigh, iovaLow, page * 4096);
      const error = this.fine.map(domain, high, low, (frame + page) as Frame, 0, 4096, permissions);
      if (error === 0) continue;
      if (page > 0) this.unmap(domain, iovaHigh, iovaLow, page);
      return error;
    }
    return 0;
  }

  unmap(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): number {
    return this.fine.unmap(domain, iovaHigh, iovaLow, pages * 4096) >>> pageShift;
  }

  /** No unit caches anything. */
  sync(): void {}

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    const root = IommuDomain.root.peek(this.#host.kernel, domain);
    const fault = this.#table.translate(root, (iovaHigh << 1) | (iovaLow >>> 31), iovaLow << 1, result);
    result.frame = (result.frame >>> 1) as Frame;
    return fault;
  }

  hwInfo(pciFunction: Ref<'PciFunction'>): HwInfo {
    const flags = MockDevice.flags.peek(this.#host.kernel, deviceOf(this.#host, pciFunction));
    const tracks = (flags & MockDeviceFlag.NO_DIRTY) === 0;
    return {
      type: selftestHwInfo, flags: 0, register: hwInfoRegister, words: [], capabilities: Capability.ATS_NOT_SUPPORTED | (tracks ? Capability.DIRTY : 0),
      maxPasidLog2: (flags & MockDeviceFlag.PASID) === 0 ? 0 : pasidBits,
    };
  }

  reservedRegions(): readonly ReservedRegion[] {
    return [];
  }

  #finePages(): FinePages {
    return {
      map: (domain, high, low, frame, offset, bytes, permissions) => this.#mapBytes(domain, high, low, hpaOf(frame) + offset, bytes, permissions),
      unmap: (domain, high, low, bytes) => {
        const root = IommuDomain.root.peek(this.#host.kernel, domain);
        return this.#table.unmap(root, (high << 1) | (low >>> 31), low << 1, bytes / minorPage) * minorPage;
      },
      addressOf: (domain, high, low) => {
        const root = IommuDomain.root.peek(this.#host.kernel, domain);
        if (this.#table.translate(root, (high << 1) | (low >>> 31), low << 1, this.#found) !== WalkFault.NONE) return -1;
        return this.#found.frame * minorPage + (low & (minorPage - 1));
      },
    };
  }

  /** Leaves of the smallest page; those that were made go again on an error. */
  #mapBytes(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, address: number, bytes: number, permissions: number): 0 | MapError {
    if ((iovaLow & (minorPage - 1)) !== 0 || address % minorPage !== 0 || bytes % minorPage !== 0) return 'EINVAL';
    const root = IommuDomain.root.peek(this.#host.kernel, domain);
    for (let done = 0; done < bytes; done += minorPage) {
      const [high, low] = later(iovaHigh, iovaLow, done);
      const error = this.#table.mapPage(root, (high << 1) | (low >>> 31), low << 1, ((address + done) / minorPage) as Frame, permissions);
      if (error === 0) continue;
      if (done > 0) this.fine.unmap(domain, iovaHigh, iovaLow, done);
      return error;
    }
    return 0;
  }

  #pasidDriver(): PasidDriver {
    return {
      pasidsOf: (pciFunction) => {
        const flags = MockDevice.flags.peek(this.#host.kernel, deviceOf(this.#host, pciFunction));
        return (flags & MockDeviceFlag.PASID) === 0 ? 0 : 1 << pasidBits;
      },
      setPasid: (domain, pciFunction, pasid) => (pasid === failingPasid ? this.#setFailingPasid(domain, pciFunction) : 0),
    };
  }

  /** The first attach arms the failure, the second meets it, blocking disarms it. */
  #setFailingPasid(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const memory = this.#host.kernel;
    const device = deviceOf(this.#host, pciFunction);
    const armed = MockDevice.pasidFails.peek(memory, device) !== 0;
    const fails = domain !== this.blockedDomain && armed;
    MockDevice.pasidFails.poke(memory, device, domain === this.blockedDomain || armed ? 0 : 1);
    return fails ? 'ENOMEM' : 0;
  }
}

function deviceOf(host: Host, pciFunction: Ref<'PciFunction'>): Ref<'MockDevice'> {
  return PciFunction.driverData.peek(host.kernel, pciFunction) as Ref<'MockDevice'>;
}

/** The IOVA `bytes` behind another one. */
function later(high: number, low: number, bytes: number): [number, number] {
  const sum = (low >>> 0) + bytes;
  return [(high + Math.floor(sum / 0x1_0000_0000)) | 0, sum | 0];
}

/** A little-endian word; what is missing is 0. */
function wordAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
}
