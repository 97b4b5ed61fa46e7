/**
 * The AMD driver, strict invalidation (the kernel's `amd_iommu_ops`): host tables that grow at the top, an entry of the device table for each
 * requester, and one domain id for each domain on every unit.
 */
import type { Engine } from '#hostmem/engine';
import { amdV1 } from '#hostmem/formats/amd-v1';
import { Owner } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { WalkResult } from '#hostmem/page-walk';
import { highOfPage, pageNumber } from '#hostmem/u64';
import * as entry from '../../hardware/amd/device-table.ts';
import { AmdRegisters } from '../../hardware/amd/registers.ts';
import { firstLevels } from '../../hardware/amd/unit.ts';
import { UnitCommandRing } from '../../hardware/command-engine.ts';
import { EventRing } from '../../hardware/event-ring.ts';
import { PciFunction } from '../../hardware/function.ts';
import type { Machine } from '../../hardware/machine.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { allocated, assert, fail } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain, leftByAll } from '../domain.ts';
import { IommuDevice, type AttachError, type HwInfo, type IommuDriver, type MapError, type ReservedRegion } from '../driver.ts';
import { DomainIdReturned, LeavesCleared, TablesFreed } from '../events.ts';
import { endOfUnmap } from '../gather.ts';
import { IdBitmap, returnId, takeId } from '../id-bitmap.ts';
import { createPagingDomain, createStaticDomain, isPagingDomain, largestLeaf } from '../paging-domain.ts';
import { Amd } from './amd.ts';
import { blockAll } from './device-table.ts';
import { amdOperations, type AmdOperations } from './operations.ts';
import { amdDomainOf, levelsFor } from './top.ts';
import { AmdDomain, AmdDriverState, AmdUnitState, packTop, topLevels, topRoot } from './unit-state.ts';

/** Requester ids of eight buses. */
const tableFrames = 16;
/** Of IOVAs; a domain begins with tables for 39 of them. */
const inputBits = 64;
/**
 * IOMMU_HW_INFO_TYPE_AMD: EFR and EFR2, those of QEMU's unit (prefetch, PPR, GT, IA, GA, HE, tables of six levels), of which this one has the tables; and
 * IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED.
 */
const amdHwInfo: HwInfo = { type: 4, flags: null, words: [0x29d3n, 0n], capabilities: 8, maxPasidLog2: 0 };
/** The interrupt window, and what HyperTransport has for itself at the end of the first TiB (`amd_iommu_get_resv_regions`). */
const reservedWindows: readonly ReservedRegion[] = [{ first: 0xfee00000, last: 0xfeefffff }, { first: 0xfd_0000_0000, last: 0xff_ffff_ffff }];

export class AmdDriver implements IommuDriver {
  readonly blockedDomain: Ref<'IommuDomain'>;
  readonly identityDomain: Ref<'IommuDomain'>;
  readonly #amd: Amd;
  readonly #domainIds: Ref<'IdBitmap'>;

  /** Joins units that `boot` set up. There is at least one. */
  constructor(host: Host, machine: Machine, operations: AmdOperations = amdOperations) {
    this.#amd = new Amd(host, machine, operations);
    const first = this.#amd.units[0];
    assert(first !== undefined, 'the machine has a unit of AMD');
    const state = AmdUnitState.driver.peek(host.kernel, first.state);
    this.blockedDomain = AmdDriverState.blockedDomain.peek(host.kernel, state);
    this.identityDomain = AmdDriverState.identityDomain.peek(host.kernel, state);
    this.#domainIds = AmdDriverState.domainIds.peek(host.kernel, state);
  }

  /** Sets up every unit of the machine, once in the life of a host: device table with everybody blocked, command buffer, event log. ENOMEM. */
  static boot(host: Host, machine: Machine): void {
    const kernel = host.kernel;
    const driver = AmdDriverState.create(kernel);
    AmdDriverState.blockedDomain.poke(kernel, driver, createStaticDomain(kernel, DriverKind.AMD, DomainKind.BLOCKED));
    AmdDriverState.identityDomain.poke(kernel, driver, createStaticDomain(kernel, DriverKind.AMD, DomainKind.IDENTITY));
    AmdDriverState.domainIds.poke(kernel, driver, IdBitmap.create(kernel));
    for (const { ref } of machine.amdUnits) {
      const state = AmdUnitState.create(kernel);
      AmdUnitState.driver.poke(kernel, state, driver);
      IommuUnit.driverData.poke(kernel, ref, state);
      enableUnit(host, IommuUnit.registers.peek(kernel, ref) as Ref<'AmdRegisters'>, state);
    }
  }

  engines(): readonly Engine[] {
    return [];
  }

  /** ENODEV for a requester id that the device table has no room for. */
  probe(pciFunction: Ref<'PciFunction'>): void {
    const { kernel } = this.#amd;
    const unit = this.#amd.unit(PciFunction.unit.peek(kernel, pciFunction));
    for (const id of [PciFunction.rid.peek(kernel, pciFunction), PciFunction.sourceId.peek(kernel, pciFunction)])
      if (id >= tableFrames * entry.entriesPerFrame) fail('ENODEV', `the device table ends before requester id 0x${id.toString(16)}`);
    const device = IommuDevice.create(kernel);
    IommuDevice.function.poke(kernel, device, pciFunction);
    IommuDevice.unit.poke(kernel, device, unit.ref);
    PciFunction.driverData.poke(kernel, pciFunction, device);
  }

  release(pciFunction: Ref<'PciFunction'>): void {
    const device = this.#device(pciFunction);
    this.#amd.operations.block(this.#amd, device);
    PciFunction.driverData.poke(this.#amd.kernel, pciFunction, NULL);
    IommuDevice.free(this.#amd.kernel, device);
  }

  allocPagingDomain(_pciFunction: Ref<'PciFunction'>, flags: number): Ref<'IommuDomain'> {
    const { kernel } = this.#amd;
    // For a PASID 7.2 makes second tables, in the format of the CPU, where unit and device have PASIDs: neither has any here.
    if (flags !== 0) fail('EOPNOTSUPP', `AMD's host tables have no support for domain flags 0x${flags.toString(16)}`);
    const tables = this.#amd.tables(firstLevels);
    const root = tables.create();
    if (root === 0) fail('ENOMEM', 'no frame for a page table');
    const domainId = takeId(kernel, this.#domainIds);
    const own = domainId === 0 ? NULL : AmdDomain.tryCreate(kernel);
    const domain = own === NULL ? NULL : createPagingDomain(kernel, DriverKind.AMD, amdV1(firstLevels), root, inputBits, own);
    if (domain === NULL) {
      tables.destroy(root);
      if (own !== NULL) AmdDomain.free(kernel, own as Ref<'AmdDomain'>);
      if (domainId !== 0) returnId(kernel, this.#domainIds, domainId);
    }
    const created = allocated(domain);
    AmdDomain.domainId.poke(kernel, own as Ref<'AmdDomain'>, domainId);
    AmdDomain.top.poke(kernel, own as Ref<'AmdDomain'>, packTop({ root, levels: firstLevels }));
    return created;
  }

  /** Its tables are freed at once: each detach has flushed all of it. */
  freeDomain(domain: Ref<'IommuDomain'>): void {
    const amd = this.#amd;
    const { kernel } = amd;
    assert(isPagingDomain(kernel, domain), 'static domains are never freed');
    leftByAll(kernel, domain);
    const own = amdDomainOf(amd, domain);
    const domainId = AmdDomain.domainId.peek(kernel, own);
    const { root, levels } = amd.operations.readTop(amd, domain);
    amd.tables(levels).destroy(root);
    TablesFreed.emit(kernel, IommuDomain.root.peek(kernel, domain));
    returnId(kernel, this.#domainIds, domainId);
    DomainIdReturned.emit(kernel, 0, domainId);
    AmdDomain.free(kernel, own);
    IommuDomain.free(kernel, domain);
  }

  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const amd = this.#amd;
    const device = this.#device(pciFunction);
    if (isPagingDomain(amd.kernel, domain)) return amd.operations.attachPaging(amd, device, domain);
    if (IommuDomain.kind.peek(amd.kernel, domain) === DomainKind.IDENTITY) return amd.operations.attachIdentity(amd, device);
    amd.operations.block(amd, device);
    return 0;
  }

  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    const amd = this.#amd;
    if ((iovaLow & 0xfff) !== 0 || !isPagingDomain(amd.kernel, domain)) return 'EINVAL';
    const needed = levelsFor(highOfPage(pageNumber(iovaHigh, iovaLow) + pages - 1));
    let { root, levels } = amd.operations.readTop(amd, domain);
    if (levels < needed) {
      if (!amd.operations.raiseTop(amd, domain, needed)) return 'ENOMEM';
      ({ root, levels } = amd.operations.readTop(amd, domain));
    }
    const tables = amd.tables(levels);
    if (pages === 1) return tables.mapPage(root, iovaHigh, iovaLow, frame, permissions);
    const error = tables.mapRange(root, iovaHigh, iovaLow, frame, permissions, pages, largestLeaf);
    const { mapped } = tables;
    if (error !== 0 && mapped > 0) {
      this.unmap(domain, iovaHigh, iovaLow, mapped);
      this.sync(domain, iovaHigh, iovaLow, mapped);
    }
    return error;
  }

  unmap(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): number {
    const amd = this.#amd;
    const { root, levels } = amd.operations.readTop(amd, domain);
    const tables = amd.tables(levels);
    const first = pageNumber(iovaHigh, iovaLow);
    const end = endOfUnmap(tables, root, first, first + pages);
    const removed = tables.unmap(root, iovaHigh, iovaLow, pages);
    if (removed > 0) LeavesCleared.emit(amd.kernel, IommuDomain.root.peek(amd.kernel, domain), iovaHigh, iovaLow, end - first);
    amd.gather.set(domain, first, first + pages, end);
    return removed;
  }

  /** Removed tables need no more than removed leaves: the commands name both, and this unit caches no tables. */
  sync(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): void {
    const amd = this.#amd;
    const first = pageNumber(iovaHigh, iovaLow);
    amd.operations.flushRange(amd, domain, iovaHigh, iovaLow, amd.gather.endOf(domain, first, first + pages) - first);
  }

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    const top = AmdDomain.top.peek(this.#amd.kernel, amdDomainOf(this.#amd, domain));
    return this.#amd.tables(topLevels(top)).translate(topRoot(top), iovaHigh, iovaLow, result);
  }

  hwInfo(): HwInfo {
    return amdHwInfo;
  }

  reservedRegions(): readonly ReservedRegion[] {
    return reservedWindows;
  }

  #device(pciFunction: Ref<'PciFunction'>): Ref<'IommuDevice'> {
    const device = PciFunction.driverData.peek(this.#amd.kernel, pciFunction) as Ref<'IommuDevice'>;
    assert(device !== NULL, 'the function was probed');
    return device;
  }
}

/** Device table, buffers and the word that waits store to are frames in RAM. */
function enableUnit(host: Host, unit: Ref<'AmdRegisters'>, state: Ref<'AmdUnitState'>): void {
  const { kernel, ram, frames } = host;
  const table = frames.allocateRun(Owner.KERNEL, tableFrames, 1);
  const [commands, events, semaphore] = [0, 1, 2].map(() => frames.allocate(Owner.KERNEL)) as [Frame, Frame, Frame];
  if (table === 0 || semaphore === 0) fail('ENOMEM', 'no frames for the tables of an IOMMU unit');
  blockAll(ram, table, tableFrames * entry.entriesPerFrame);
  AmdUnitState.semaphore.poke(kernel, state, semaphore);
  AmdRegisters.deviceTableFrames.poke(kernel, unit, tableFrames);
  UnitCommandRing.frame.poke(kernel, AmdRegisters.commands.peek(kernel, unit), commands);
  EventRing.frame.poke(kernel, AmdRegisters.events.peek(kernel, unit), events);
  AmdRegisters.deviceTable.poke(kernel, unit, table);
}
