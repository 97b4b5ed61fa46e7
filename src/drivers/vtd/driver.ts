/**
 * The VT-d driver, strict invalidation (the kernel's `intel_iommu_ops`). Legacy mode: second-stage tables and a context entry for each
 * requester. Scalable mode: first-stage tables where the unit has them, and a PASID table for each device. A unit has one of the modes.
 */
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { Owner } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, pageShift, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { Engine } from '#hostmem/engine';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import type { WalkResult } from '#hostmem/page-walk';
import { pageNumber } from '#hostmem/u64';
import { PciFunction } from '../../hardware/function.ts';
import type { Machine } from '../../hardware/machine.ts';
import { hasOverflowed } from '../../hardware/page-requests.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import * as registers from '../../hardware/vtd/registers.ts';
import { GlobalStatus, RootTableMode, VtdRegisters, wideDescriptors } from '../../hardware/vtd/registers.ts';
import { allocated, assert, fail, type ErrnoName } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain, leftByAll } from '../domain.ts';
import {
  DomainFlags, formatId, IommuDevice,
  type AttachError, type UserData, type HwInfo, type Invalidations, type IommuDriver, type MapError, type ReservedRegion, type TakenRequest,
} from '../driver.ts';
import { LeavesCleared, TablesFreed } from '../events.ts';
import { firstStageLevels, hasFirstStage, hasSecondStage, widestLevels } from './attach.ts';
import { canAskForPages, supportsAts } from './ats.ts';
import { ensureContextTable } from './context.ts';
import { pasidsOf } from './device-pasid.ts';
import { createNested, freeNested, invalidateNested, isNested, nests } from './nested.ts';
import { vtdOperations, type VtdOperations } from './operations.ts';
import { descriptorBytes, wideDescriptorBytes } from '../../hardware/vtd/descriptors.ts';
import { endOfUnmap } from '../gather.ts';
import { requestsCome, takeRequest } from '../request-queue.ts';
import { ridPasid } from './pasid-entry.ts';
import { reserveDomainIds, VtdUnitState } from './unit-state.ts';
import { Vtd, type VtdUnit } from './vtd.ts';

/** HW_INFO: the type of VT-d, and IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED. */
const hwInfoTypeVtd = 1;
/** IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17, which Linux tells for every unit. */
const knownErratum = 1;
const atsNotSupported = 8;
const interruptWindow: readonly ReservedRegion[] = [{ first: 0xfee00000, last: 0xfeefffff }];

/** What the kernel's command line and the switches of `SEMANTICS` g.0 decide. */
export interface BootOptions {
  /** False keeps units that have scalable mode in legacy mode (`intel_iommu=sm_off`). */
  readonly scalable?: boolean;
  /** False gives devices behind a bridge what 7.2 forgets (K8): a PASID table under the alias of their requests. */
  readonly aliasPasidTableSkipped?: boolean;
}

export class VtdDriver implements IommuDriver {
  readonly blockedDomain: Ref<'IommuDomain'>;
  readonly identityDomain: Ref<'IommuDomain'>;
  readonly #vtd: Vtd;

  /** Joins units that `boot` set up. There is at least one. */
  constructor(host: Host, machine: Machine, operations: VtdOperations = vtdOperations) {
    this.#vtd = new Vtd(host, machine, operations);
    const first = this.#vtd.units[0];
    assert(first !== undefined, 'the machine has a VT-d unit');
    this.blockedDomain = VtdUnitState.blockedDomain.peek(host.kernel, first.state);
    this.identityDomain = VtdUnitState.identityDomain.peek(host.kernel, first.state);
  }

  /**
   * Sets up every unit of the machine, once in the life of a host: tables, queue, translation on, everything blocked; units that
   * have scalable mode in that mode. ENOMEM.
   */
  static boot(host: Host, machine: Machine, options: BootOptions = {}): void {
    const kernel = host.kernel;
    const blocked = createStaticDomain(host, DomainKind.BLOCKED);
    const identity = createStaticDomain(host, DomainKind.IDENTITY);
    for (const unit of machine.units) {
      const state = VtdUnitState.create(kernel);
      VtdUnitState.blockedDomain.poke(kernel, state, blocked);
      VtdUnitState.identityDomain.poke(kernel, state, identity);
      VtdUnitState.aliasPasidTableSkipped.poke(kernel, state, (options.aliasPasidTableSkipped ?? true) ? 1 : 0);
      reserveDomainIds(kernel, state);
      IommuUnit.driverData.poke(kernel, unit.ref, state);
      const unitRegisters = IommuUnit.registers.peek(kernel, unit.ref) as Ref<'VtdRegisters'>;
      const canScale = registers.supportsScalable(VtdRegisters.extendedCapability.peekHigh(kernel, unitRegisters));
      enableUnit(host, unitRegisters, state, canScale && (options.scalable ?? true));
    }
  }

  engines(): readonly Engine[] {
    return this.#vtd.units.map((unit) => unit.faultHandler);
  }

  probe(pciFunction: Ref<'PciFunction'>): void {
    const { kernel } = this.#vtd;
    const unit = this.#vtd.unit(PciFunction.unit.peek(kernel, pciFunction));
    for (const sourceId of [PciFunction.rid.peek(kernel, pciFunction), PciFunction.sourceId.peek(kernel, pciFunction)])
      if (!ensureContextTable(this.#vtd, unit, sourceId)) fail('ENOMEM', 'no frame for a context table');
    const device = IommuDevice.create(kernel);
    IommuDevice.function.poke(kernel, device, pciFunction);
    IommuDevice.unit.poke(kernel, device, unit.ref);
    if (unit.scalable && !this.#vtd.operations.setUpPasidTable(this.#vtd, unit, device)) {
      IommuDevice.free(kernel, device);
      fail('ENOMEM', 'no frame for a PASID directory');
    }
    PciFunction.driverData.poke(kernel, pciFunction, device);
  }

  release(pciFunction: Ref<'PciFunction'>): void {
    const device = this.#device(pciFunction);
    const unit = this.#unit(pciFunction);
    this.#vtd.operations.disableAts(this.#vtd, device);
    this.#vtd.operations.blockTranslation(this.#vtd, device);
    if (unit.scalable) this.#vtd.operations.tearDownPasidTable(this.#vtd, unit, device);
    PciFunction.driverData.poke(this.#vtd.kernel, pciFunction, NULL);
    IommuDevice.free(this.#vtd.kernel, device);
  }

  enableAts(pciFunction: Ref<'PciFunction'>): void {
    this.#vtd.operations.enableAts(this.#vtd, this.#device(pciFunction));
  }

  disableAts(pciFunction: Ref<'PciFunction'>): void {
    this.#vtd.operations.disableAts(this.#vtd, this.#device(pciFunction));
  }

  allocPagingDomain(pciFunction: Ref<'PciFunction'>, flags: number): Ref<'IommuDomain'> {
    const kernel = this.#vtd.kernel;
    const unit = this.#unit(pciFunction);
    const format = formatFor(unit, flags);
    const root = this.#vtd.frames.allocate(Owner.TABLE);
    if (root === 0) fail('ENOMEM', 'no frame for a page table');
    const domain = IommuDomain.tryCreate(kernel);
    if (domain === NULL) this.#vtd.frames.drop(root);
    IommuDomain.kind.poke(kernel, allocated(domain), DomainKind.PAGING);
    IommuDomain.driver.poke(kernel, domain, DriverKind.VTD);
    IommuDomain.format.poke(kernel, domain, formatId(format));
    IommuDomain.levels.poke(kernel, domain, format.levels);
    IommuDomain.root.poke(kernel, domain, root);
    IommuDomain.largestLeaf.poke(kernel, domain, largestLeafOf(unit, format));
    IommuDomain.apertureLastHigh.poke(kernel, domain, 2 ** (apertureBits(unit, format) - 32) - 1);
    IommuDomain.apertureLastLow.poke(kernel, domain, -1);
    IommuDomain.smallestPageBits.poke(kernel, domain, pageShift);
    IommuDomain.pageSizes.poke(kernel, domain, 0, leafSizes(largestLeafOf(unit, format)));
    IommuDomain.nestParent.poke(kernel, domain, flags & DomainFlags.NEST_PARENT);
    return domain;
  }

  allocNestedDomain(pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, flags: number, data: UserData): Ref<'IommuDomain'> {
    return createNested(this.#vtd.kernel, this.#unit(pciFunction), parent, flags, data);
  }

  invalidateNested(domain: Ref<'IommuDomain'>, asked: Invalidations): 0 | ErrnoName {
    return invalidateNested(this.#vtd, domain, asked);
  }

  /** Its tables are freed at once: no unit can hold any of it since the last detach was flushed (Q6 covers Q2). */
  freeDomain(domain: Ref<'IommuDomain'>): void {
    const kernel = this.#vtd.kernel;
    leftByAll(kernel, domain);
    if (isNested(kernel, domain)) {
      freeNested(kernel, domain);
      return;
    }
    assert(this.#isPaging(domain), 'static domains are never freed');
    const root = IommuDomain.root.peek(kernel, domain);
    this.#vtd.tables(domain).destroy(root);
    TablesFreed.emit(kernel, root);
    IommuDomain.free(kernel, domain);
  }

  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const vtd = this.#vtd;
    const device = this.#device(pciFunction);
    const kind = IommuDomain.kind.peek(vtd.kernel, domain);
    if (kind === DomainKind.PAGING || kind === DomainKind.NESTED) return vtd.operations.attachPaging(vtd, device, domain);
    if (kind === DomainKind.IDENTITY) return vtd.operations.attachIdentity(vtd, device);
    vtd.operations.blockTranslation(vtd, device);
    return 0;
  }

  pasidsOf(pciFunction: Ref<'PciFunction'>): number {
    return pasidsOf(this.#vtd, this.#unit(pciFunction), pciFunction);
  }

  setPasid(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>, pasid: number): 0 | AttachError {
    const vtd = this.#vtd;
    const device = this.#device(pciFunction);
    if (this.#isPaging(domain) || isNested(vtd.kernel, domain)) return vtd.operations.setPasid(vtd, device, pasid, domain);
    vtd.operations.removePasid(vtd, device, pasid);
    return 0;
  }

  takesPageRequests(pciFunction: Ref<'PciFunction'>): boolean {
    return canAskForPages(this.#vtd, pciFunction);
  }

  pageRequestsSoFar(pciFunction: Ref<'PciFunction'>): number {
    return requestsCome(this.#vtd.kernel, this.#pageRequests(pciFunction));
  }

  takePageRequest(pciFunction: Ref<'PciFunction'>, count: number): TakenRequest | null {
    return takeRequest(this.#vtd.kernel, this.#pageRequests(pciFunction), count);
  }

  drainPageRequests(pciFunction: Ref<'PciFunction'>, pasid: number | null): boolean {
    this.#vtd.operations.drainPageRequests(this.#vtd, this.#unit(pciFunction), this.#device(pciFunction), pasid ?? ridPasid);
    return !hasOverflowed(this.#vtd.kernel, this.#pageRequests(pciFunction));
  }

  #pageRequests(pciFunction: Ref<'PciFunction'>): Ref<'PageRequests'> {
    return IommuUnit.pageRequests.peek(this.#vtd.kernel, this.#unit(pciFunction).ref);
  }

  answerPage(pciFunction: Ref<'PciFunction'>, group: number, code: number, pasid: number | null): void {
    const vtd = this.#vtd;
    vtd.operations.submit(vtd, this.#unit(pciFunction), vtd.batch.clear().pageAnswer(PciFunction.rid.peek(vtd.kernel, pciFunction), group, code, pasid));
  }

  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    if ((iovaLow & 0xfff) !== 0 || !this.#isPaging(domain)) return 'EINVAL';
    const kernel = this.#vtd.kernel;
    // PT_FEAT_VTDSS_FORCE_WRITEABLE, for erratum 772415: Linux has it on every nest parent.
    if (IommuDomain.nestParent.peek(kernel, domain) !== 0 && (permissions & Access.WRITE) === 0) return 'EINVAL';
    const table = this.#vtd.tables(domain);
    const root = IommuDomain.root.peek(kernel, domain);
    if (pages === 1) return table.mapPage(root, iovaHigh, iovaLow, frame, permissions);
    const error = table.mapRange(root, iovaHigh, iovaLow, frame, permissions, pages, IommuDomain.largestLeaf.peek(kernel, domain));
    if (error !== 0 && table.mapped > 0) this.#undo(domain, iovaHigh, iovaLow, table.mapped);
    return error;
  }

  unmap(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): number {
    const vtd = this.#vtd;
    const root = IommuDomain.root.peek(vtd.kernel, domain);
    const first = pageNumber(iovaHigh, iovaLow);
    const tables = vtd.tables(domain);
    const end = endOfUnmap(tables, root, first, first + pages);
    const removed = tables.unmap(root, iovaHigh, iovaLow, pages);
    if (removed > 0) LeavesCleared.emit(vtd.kernel, root, iovaHigh, iovaLow, end - first);
    vtd.operations.gather(vtd, domain, first, first + pages, end);
    return removed;
  }

  sync(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void {
    const vtd = this.#vtd;
    const first = pageNumber(iovaHigh, iovaLow);
    vtd.operations.flushRange(vtd, domain, iovaHigh, iovaLow, vtd.gather.endOf(domain, first, first + pages) - first, leafOnly);
  }

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    const kernel = this.#vtd.kernel;
    return this.#vtd.tables(domain).translate(IommuDomain.root.peek(kernel, domain), iovaHigh, iovaLow, result);
  }

  hwInfo(pciFunction: Ref<'PciFunction'>): HwInfo {
    const unit = this.#unit(pciFunction);
    const kernel = this.#vtd.kernel;
    const words = [VtdRegisters.capability.peekBig(kernel, unit.registers), VtdRegisters.extendedCapability.peekBig(kernel, unit.registers)];
    const capabilities = supportsAts(this.#vtd, unit, pciFunction) ? 0 : atsNotSupported;
    return { type: hwInfoTypeVtd, flags: knownErratum, words, capabilities, maxPasidLog2: Math.log2(Math.max(1, this.pasidsOf(pciFunction))) };
  }

  reservedRegions(): readonly ReservedRegion[] {
    return interruptWindow;
  }

  #undo(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): void {
    this.unmap(domain, iovaHigh, iovaLow, pages);
    this.sync(domain, iovaHigh, iovaLow, pages, true);
  }

  #isPaging(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.kind.peek(this.#vtd.kernel, domain) === DomainKind.PAGING;
  }

  #unit(pciFunction: Ref<'PciFunction'>): VtdUnit {
    return this.#vtd.unit(PciFunction.unit.peek(this.#vtd.kernel, pciFunction));
  }

  #device(pciFunction: Ref<'PciFunction'>): Ref<'IommuDevice'> {
    const device = PciFunction.driverData.peek(this.#vtd.kernel, pciFunction) as Ref<'IommuDevice'>;
    assert(device !== NULL, 'the function was probed');
    return device;
  }
}

/**
 * First stage where the unit has it and nobody asks for more than PASIDs, second stage otherwise (`intel_iommu_domain_alloc_paging_flags`). Dirty
 * tracking needs operations that are not modelled; no unit here offers it.
 */
function formatFor(unit: VtdUnit, flags: number): PageTableFormat {
  if ((flags & ~DomainFlags.PASID) === 0 && hasFirstStage(unit)) return vtdFirstStage(firstStageLevels(unit));
  const supported = DomainFlags.PASID | (nests(unit) ? DomainFlags.NEST_PARENT : 0);
  if ((flags & ~supported) !== 0) fail('EOPNOTSUPP', `the VT-d unit has no support for domain flags 0x${flags.toString(16)}`);
  if (!hasSecondStage(unit)) fail('EOPNOTSUPP', 'a VT-d unit in scalable mode without either stage');
  return vtdSecondStage(widestLevels(unit));
}

function largestLeafOf(unit: VtdUnit, format: PageTableFormat): number {
  return format.signExtended ? registers.firstStageLargestLeaf(unit.capabilityHigh) : registers.secondStageLargestLeaf(unit.capabilityHigh);
}

/** 4 KiB, then 2 MiB and 1 GiB where leaves may be at that level. */
const leafSizes = (largest: number): number => (1 << 12) | (largest >= 2 ? 1 << 21 : 0) | (largest >= 3 ? 1 << 30 : 0);

/** Of a sign-extended table the lower half is offered, as the generic page tables of 7.2 do (`compute_vasz_lg2_fs`, `_ss`). */
function apertureBits(unit: VtdUnit, format: PageTableFormat): number {
  const addressBits = registers.addressBitsOf(unit.capabilityLow);
  return Math.min(format.inputBits, format.signExtended ? addressBits - 1 : addressBits);
}

function createStaticDomain(host: Host, kind: DomainKind): Ref<'IommuDomain'> {
  const domain = IommuDomain.create(host.kernel);
  IommuDomain.kind.poke(host.kernel, domain, kind);
  IommuDomain.driver.poke(host.kernel, domain, DriverKind.VTD);
  return domain;
}

/** Root table, queue and status words are frames in RAM; then the queue is enabled, then translation. In scalable mode descriptors are wide. */
function enableUnit(host: Host, unit: Ref<'VtdRegisters'>, state: Ref<'VtdUnitState'>, scalable: boolean): void {
  const kernel = host.kernel;
  const rootTable = kernelFrame(host);
  const queue = kernelFrame(host);
  VtdUnitState.rootTable.poke(kernel, state, rootTable);
  VtdUnitState.queue.poke(kernel, state, queue);
  VtdUnitState.queueStatus.poke(kernel, state, kernelFrame(host));
  VtdUnitState.queueFree.poke(kernel, state, pageBytes / (scalable ? wideDescriptorBytes : descriptorBytes));
  VtdRegisters.rootTable.poke(kernel, unit, 0, hpaOf(rootTable) | ((scalable ? RootTableMode.SCALABLE : RootTableMode.LEGACY) << 10));
  VtdRegisters.queueAddress.poke(kernel, unit, 0, hpaOf(queue) | (scalable ? wideDescriptors : 0));
  const on = GlobalStatus.ROOT_TABLE_SET | GlobalStatus.QUEUE_ENABLED | GlobalStatus.TRANSLATING;
  VtdRegisters.globalStatus.poke(kernel, unit, on);
}

function kernelFrame(host: Host): Frame {
  const frame = host.frames.allocate(Owner.KERNEL);
  if (frame === 0) fail('ENOMEM', 'no frame for the tables of an IOMMU unit');
  return frame;
}
