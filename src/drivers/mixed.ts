/**
 * Two IOMMU drivers in one kernel: VT-d's, and the mock driver of a test kernel. What is asked of a device goes to the driver that
 * probed it (`dev_iommu_ops`), what is asked of a domain to the one that made it (`domain->ops`), whatever device is named with it.
 *
 * Mock devices have no vIOMMUs here and nest nothing, nor does the unit of VT-d beside them, which is in legacy mode.
 */
import type { Engine } from '#hostmem/engine';
import { frameOf, type Frame } from '#hostmem/memory';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { WalkResult } from '#hostmem/page-walk';
import { PciFunction } from '../hardware/function.ts';
import { fail } from '../kernel/errno.ts';
import { DriverKind, IommuDomain } from './domain.ts';
import type { AttachError, DirtyRanges, UserData, HwInfo, IommuDriver, MapError, ReservedRegion } from './driver.ts';
import type { MockDriver } from './mock/driver.ts';
import type { VtdDriver } from './vtd/driver.ts';

type Domain = Ref<'IommuDomain'>;
type Function = Ref<'PciFunction'>;

export class MixedDrivers implements IommuDriver {
  /** Of VT-d: a mock device's group has its own. */
  readonly blockedDomain: Domain;
  readonly identityDomain: Domain;
  readonly #memory: Memory;
  readonly #vtd: VtdDriver;
  readonly #mock: MockDriver;

  constructor(memory: Memory, vtd: VtdDriver, mock: MockDriver) {
    this.#memory = memory;
    this.#vtd = vtd;
    this.#mock = mock;
    this.blockedDomain = vtd.blockedDomain;
    this.identityDomain = vtd.identityDomain;
  }

  owns(domain: Domain, pciFunction: Function): boolean {
    return this.#isMock(domain) === this.#isMockFunction(pciFunction);
  }

  /** No unit stands before a mock device. */
  #isMockFunction(pciFunction: Function): boolean {
    return PciFunction.unit.peek(this.#memory, pciFunction) === NULL;
  }

  #isMock(domain: Domain): boolean {
    return IommuDomain.driver.peek(this.#memory, domain) === DriverKind.MOCK;
  }

  #ofFunction(pciFunction: Function): VtdDriver | MockDriver {
    return this.#isMockFunction(pciFunction) ? this.#mock : this.#vtd;
  }

  #of(domain: Domain): VtdDriver | MockDriver {
    return this.#isMock(domain) ? this.#mock : this.#vtd;
  }

  engines(): readonly Engine[] {
    return [...this.#vtd.engines(), ...this.#mock.engines()];
  }

  probe(pciFunction: Function): void {
    this.#ofFunction(pciFunction).probe(pciFunction);
  }

  release(pciFunction: Function): void {
    this.#ofFunction(pciFunction).release(pciFunction);
  }

  allocPagingDomain(pciFunction: Function, flags: number): Domain {
    return this.#ofFunction(pciFunction).allocPagingDomain(pciFunction, flags);
  }

  allocPagingWithData(pciFunction: Function, flags: number, data: UserData): Domain {
    if (!this.#isMockFunction(pciFunction)) fail('EOPNOTSUPP', 'the driver takes no data for a paging domain');
    return this.#mock.allocPagingWithData(pciFunction, flags, data);
  }

  hwInfo(pciFunction: Function): HwInfo {
    return this.#ofFunction(pciFunction).hwInfo(pciFunction);
  }

  reservedRegions(pciFunction: Function): readonly ReservedRegion[] {
    return this.#isMockFunction(pciFunction) ? this.#mock.reservedRegions() : this.#vtd.reservedRegions();
  }

  pasidsOf(pciFunction: Function): number {
    return this.#isMockFunction(pciFunction) ? this.#mock.pasidsOf(pciFunction) : this.#vtd.pasidsOf(pciFunction);
  }

  freeDomain(domain: Domain): void {
    this.#of(domain).freeDomain(domain);
  }

  /** To the domain's driver, also with a device that is not its own (K9). */
  attach(domain: Domain, pciFunction: Function): 0 | AttachError {
    return this.#of(domain).attach(domain, pciFunction);
  }

  setPasid(domain: Domain, pciFunction: Function, pasid: number): 0 | AttachError {
    return this.#isMockFunction(pciFunction) ? this.#mock.setPasid(domain, pciFunction, pasid) : this.#vtd.setPasid(domain, pciFunction, pasid);
  }

  map(domain: Domain, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    return this.#of(domain).map(domain, iovaHigh, iovaLow, frame, permissions, pages);
  }

  unmap(domain: Domain, iovaHigh: number, iovaLow: number, pages: number): number {
    return this.#of(domain).unmap(domain, iovaHigh, iovaLow, pages);
  }

  sync(domain: Domain, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void {
    if (!this.#isMock(domain)) this.#vtd.sync(domain, iovaHigh, iovaLow, pages, leafOnly);
  }

  mapBytes(domain: Domain, iova: bigint, hpa: number, bytes: number, permissions: number): 0 | MapError {
    if (this.#isMock(domain)) return this.#mock.mapBytes(domain, iova, hpa, bytes, permissions);
    return this.#vtd.map(domain, high(iova), low(iova), frameOf(hpa), permissions, bytes / 4096);
  }

  unmapBytes(domain: Domain, iova: bigint, bytes: bigint): void {
    if (this.#isMock(domain)) {
      this.#mock.unmapBytes(domain, iova, bytes);
      return;
    }
    this.#vtd.unmap(domain, high(iova), low(iova), Number(bytes / 4096n));
    this.#vtd.sync(domain, high(iova), low(iova), Number(bytes / 4096n), true);
  }

  translate(domain: Domain, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    return this.#of(domain).translate(domain, iovaHigh, iovaLow, result);
  }

  tracksWrites(domain: Domain): boolean {
    return this.#isMock(domain) && this.#mock.tracksWrites(domain);
  }

  markWritten(domain: Domain, iova: bigint): void {
    if (this.#isMock(domain)) this.#mock.markWritten(domain, iova);
  }

  setDirtyTracking(domain: Domain, enabled: boolean): 0 | 'EINVAL' {
    return this.#isMock(domain) ? this.#mock.setDirtyTracking(domain, enabled) : 'EINVAL';
  }

  readAndClearDirty(domain: Domain, iova: bigint, bytes: bigint, clear: boolean, found: DirtyRanges): 0 | 'EINVAL' {
    return this.#isMock(domain) ? this.#mock.readAndClearDirty(domain, iova, bytes, clear, found) : 'EINVAL';
  }
}

const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
const low = (value: bigint): number => Number(BigInt.asIntN(32, value));
