/**
 * The SMMUv3 driver, strict invalidation (the kernel's `arm_smmu_ops`): stage-1 tables through a context descriptor of each device, stage-2 tables
 * for who asks for a nest parent, and an entry of the stream table for each requester.
 */
import type { Engine } from '#hostmem/engine';
import { Owner } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { WalkResult } from '#hostmem/page-walk';
import { pageNumber } from '#hostmem/u64';
import { UnitCommandRing } from '../../hardware/command-engine.ts';
import { EventRing } from '../../hardware/event-ring.ts';
import { PciFunction } from '../../hardware/function.ts';
import type { Machine } from '../../hardware/machine.ts';
import { idRegisters, SmmuRegisters, StreamTableFormat } from '../../hardware/smmuv3/registers.ts';
import { entryBytes } from '../../hardware/smmuv3/stream-table.ts';
import { Hitless, IommuUnit } from '../../hardware/unit.ts';
import { allocated, assert, fail, type ErrnoName } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain, leftByAll } from '../domain.ts';
import {
  DomainFlags, IommuDevice, type AttachError, type UserData, type DriverViommu, type GuestEvent, type HwInfo, type Invalidations, type IommuDriver, type MapError, type ReservedRegion,
} from '../driver.ts';
import { DomainIdReturned, LeavesCleared, TablesFreed } from '../events.ts';
import { endOfUnmap } from '../gather.ts';
import { IdBitmap, returnId, takeId } from '../id-bitmap.ts';
import { createPagingDomain, createStaticDomain, isPagingDomain, largestLeaf } from '../paging-domain.ts';
import { abortAll, ensureStream, streamIdsOf } from './entries.ts';
import { takeGuestEvents } from './guest-events.ts';
import { createNested, freeNested, isNested } from './nested.ts';
import { smmuOperations, type SmmuOperations } from './operations.ts';
import { firstStage, secondStage, Smmu, smmuFaults, type SmmuFaults } from './smmu.ts';
import { SmmuDriverState, SmmuUnitState } from './unit-state.ts';
import { addVdevice, createViommu, invalidate, removeVdevice, smmuViommuType, SmmuViommu } from './viommu.ts';

/** A PCI requester id. */
const streamBits = 16;
/** Frames of a linear table, and how many bits of a stream id that is. */
const linearFrames = 16;
const linearBits = 10;
/** IOMMU_HW_INFO_TYPE_ARM_SMMUV3: the ID registers; and IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED, which is said of the functions. */
const idWords = [0, 2, 4, 6].map((index) => BigInt(idRegisters[index]!) | (BigInt(idRegisters[index + 1]!) << 32n));
const smmuHwInfo: HwInfo = { type: 2, flags: 0, words: idWords, capabilities: 8, maxPasidLog2: 0 };
/** Of the machine, whichever IOMMU it has: its functions' writes there are messages and are never translated (`DmaEngine`). */
const interruptWindow: readonly ReservedRegion[] = [{ first: 0xfee00000, last: 0xfeefffff }];

/** What decides how a unit is set up. */
export interface SmmuBootOptions {
  /** Of two levels by default, as Linux has it where the unit can. */
  readonly streamTable?: 'linear' | 'two-level';
}

export class SmmuDriver implements IommuDriver {
  readonly blockedDomain: Ref<'IommuDomain'>;
  readonly identityDomain: Ref<'IommuDomain'>;
  readonly #smmu: Smmu;
  readonly #state: Ref<'SmmuDriverState'>;

  /** Joins units that `boot` set up. There is at least one. */
  constructor(host: Host, machine: Machine, operations: SmmuOperations = smmuOperations, faults: SmmuFaults = smmuFaults) {
    this.#smmu = new Smmu(host, machine, operations, faults);
    const first = this.#smmu.units[0];
    assert(first !== undefined, 'the machine has an SMMUv3');
    this.#state = SmmuUnitState.driver.peek(host.kernel, first.state);
    this.blockedDomain = SmmuDriverState.blockedDomain.peek(host.kernel, this.#state);
    this.identityDomain = SmmuDriverState.identityDomain.peek(host.kernel, this.#state);
  }

  /** Sets up every unit of the machine, once in the life of a host: stream table, queues, everything aborts. ENOMEM. */
  static boot(host: Host, machine: Machine, options: SmmuBootOptions = {}): void {
    const kernel = host.kernel;
    const driver = SmmuDriverState.create(kernel);
    SmmuDriverState.blockedDomain.poke(kernel, driver, createStaticDomain(kernel, DriverKind.SMMUV3, DomainKind.BLOCKED));
    SmmuDriverState.identityDomain.poke(kernel, driver, createStaticDomain(kernel, DriverKind.SMMUV3, DomainKind.IDENTITY));
    SmmuDriverState.asids.poke(kernel, driver, IdBitmap.create(kernel));
    SmmuDriverState.vmids.poke(kernel, driver, IdBitmap.create(kernel));
    for (const { ref } of machine.smmuUnits) {
      const state = SmmuUnitState.create(kernel);
      SmmuUnitState.driver.poke(kernel, state, driver);
      IommuUnit.driverData.poke(kernel, ref, state);
      IommuUnit.hitless.poke(kernel, ref, Hitless.BETWEEN_STAGES);
      enableUnit(host, IommuUnit.registers.peek(kernel, ref) as Ref<'SmmuRegisters'>, state, options.streamTable === 'linear');
    }
  }

  engines(): readonly Engine[] {
    return [];
  }

  probe(pciFunction: Ref<'PciFunction'>): void {
    const smmu = this.#smmu;
    const { kernel } = smmu;
    const unit = smmu.unit(PciFunction.unit.peek(kernel, pciFunction));
    for (const id of [PciFunction.rid.peek(kernel, pciFunction), PciFunction.sourceId.peek(kernel, pciFunction)])
      if (!ensureStream(smmu, unit, id)) fail('ENOMEM', `no stream-table entry for stream 0x${id.toString(16)}`);
    const descriptors = smmu.frames.allocate(Owner.KERNEL);
    if (descriptors === 0) fail('ENOMEM', 'no frame for a context descriptor');
    const device = IommuDevice.create(kernel);
    IommuDevice.function.poke(kernel, device, pciFunction);
    IommuDevice.unit.poke(kernel, device, unit.ref);
    IommuDevice.pasidDirectory.poke(kernel, device, descriptors);
    PciFunction.driverData.poke(kernel, pciFunction, device);
  }

  release(pciFunction: Ref<'PciFunction'>): void {
    const { kernel, frames } = this.#smmu;
    const device = this.#device(pciFunction);
    this.#smmu.operations.block(this.#smmu, device);
    PciFunction.driverData.poke(kernel, pciFunction, NULL);
    frames.drop(IommuDevice.pasidDirectory.peek(kernel, device) as Frame);
    IommuDevice.free(kernel, device);
  }

  /** Stage 1, or stage 2 where another stage is to be put on it (`arm_smmu_domain_alloc_paging_flags`). */
  allocPagingDomain(pciFunction: Ref<'PciFunction'>, flags: number): Ref<'IommuDomain'> {
    const { kernel, first, second } = this.#smmu;
    if ((flags & ~(DomainFlags.PASID | DomainFlags.NEST_PARENT)) !== 0) fail('EOPNOTSUPP', `SMMUv3 has no support for domain flags 0x${flags.toString(16)}`);
    const isSecond = (flags & DomainFlags.NEST_PARENT) !== 0;
    const tables = isSecond ? second : first;
    const ids = this.#ids(isSecond);
    const root = tables.create();
    if (root === 0) fail('ENOMEM', 'no frame for a page table');
    const number = takeId(kernel, ids);
    const domain = number === 0 ? NULL : createPagingDomain(kernel, DriverKind.SMMUV3, isSecond ? secondStage : firstStage, root, tables.format.inputBits, number);
    if (domain === NULL) {
      tables.destroy(root);
      if (number !== 0) returnId(kernel, ids, number);
    } else if (isSecond) IommuDomain.unit.poke(kernel, domain, PciFunction.unit.peek(kernel, pciFunction));
    return allocated(domain);
  }

  /** Its tables are freed at once: the unit of the last detach has forgotten the address space. */
  freeDomain(domain: Ref<'IommuDomain'>): void {
    const smmu = this.#smmu;
    const { kernel } = smmu;
    if (isNested(kernel, domain)) {
      freeNested(kernel, domain);
      return;
    }
    assert(isPagingDomain(kernel, domain), 'static domains are never freed');
    leftByAll(kernel, domain);
    const root = IommuDomain.root.peek(kernel, domain);
    const number = IommuDomain.driverData.peek(kernel, domain);
    smmu.tables(domain).destroy(root);
    TablesFreed.emit(kernel, root);
    returnId(kernel, this.#ids(smmu.isSecondStage(domain)), number);
    DomainIdReturned.emit(kernel, 0, number);
    IommuDomain.free(kernel, domain);
  }

  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const smmu = this.#smmu;
    const device = this.#device(pciFunction);
    if (isPagingDomain(smmu.kernel, domain)) return smmu.operations.attachPaging(smmu, device, domain);
    if (isNested(smmu.kernel, domain)) return smmu.operations.attachNested(smmu, device, domain);
    if (IommuDomain.kind.peek(smmu.kernel, domain) === DomainKind.IDENTITY) smmu.operations.attachIdentity(smmu, device);
    else smmu.operations.block(smmu, device);
    return 0;
  }

  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    const { kernel } = this.#smmu;
    if ((iovaLow & 0xfff) !== 0 || !isPagingDomain(kernel, domain)) return 'EINVAL';
    const tables = this.#smmu.tables(domain);
    const root = IommuDomain.root.peek(kernel, domain);
    if (pages === 1) return tables.mapPage(root, iovaHigh, iovaLow, frame, permissions);
    const error = tables.mapRange(root, iovaHigh, iovaLow, frame, permissions, pages, largestLeaf);
    const { mapped } = tables;
    if (error !== 0 && mapped > 0) {
      this.unmap(domain, iovaHigh, iovaLow, mapped);
      this.sync(domain, iovaHigh, iovaLow, mapped, true);
    }
    return error;
  }

  unmap(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): number {
    const smmu = this.#smmu;
    const tables = smmu.tables(domain);
    const root = IommuDomain.root.peek(smmu.kernel, domain);
    const first = pageNumber(iovaHigh, iovaLow);
    const end = endOfUnmap(tables, root, first, first + pages);
    smmu.operations.beginUnmap(smmu, domain);
    const removed = tables.unmap(root, iovaHigh, iovaLow, pages);
    if (removed > 0) LeavesCleared.emit(smmu.kernel, root, iovaHigh, iovaLow, end - first);
    smmu.gather.set(domain, first, first + pages, end);
    return removed;
  }

  sync(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void {
    const smmu = this.#smmu;
    const first = pageNumber(iovaHigh, iovaLow);
    smmu.operations.flushRange(smmu, domain, iovaHigh, iovaLow, smmu.gather.endOf(domain, first, first + pages) - first, leafOnly);
  }

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    return this.#smmu.tables(domain).translate(IommuDomain.root.peek(this.#smmu.kernel, domain), iovaHigh, iovaLow, result);
  }

  hwInfo(): HwInfo {
    return smmuHwInfo;
  }

  reservedRegions(): readonly ReservedRegion[] {
    return interruptWindow;
  }

  /** `arm_smmu_get_viommu_size`: every unit here can nest. */
  hasViommu(_pciFunction: Ref<'PciFunction'>, type: number): boolean {
    return type === smmuViommuType;
  }

  viommuInit(pciFunction: Ref<'PciFunction'>, parent: Ref<'IommuDomain'>, { bytes }: UserData, known: number): DriverViommu {
    const { kernel } = this.#smmu;
    return { viommu: createViommu(kernel, PciFunction.unit.peek(kernel, pciFunction), parent, known), answer: bytes };
  }

  viommuDestroy(viommu: number): void {
    SmmuViommu.free(this.#smmu.kernel, viommu as Ref<'SmmuViommu'>);
  }

  viommuCovers(viommu: number, pciFunction: Ref<'PciFunction'>): boolean {
    const { kernel } = this.#smmu;
    return PciFunction.unit.peek(kernel, pciFunction) === SmmuViommu.unit.peek(kernel, viommu as Ref<'SmmuViommu'>);
  }

  viommuAllocNested(viommu: number, flags: number, data: UserData): Ref<'IommuDomain'> {
    return createNested(this.#smmu.kernel, viommu as Ref<'SmmuViommu'>, flags, data);
  }

  viommuInvalidate(viommu: number, asked: Invalidations): 0 | ErrnoName {
    const smmu = this.#smmu;
    const known = viommu as Ref<'SmmuViommu'>;
    return invalidate(smmu, smmu.unit(SmmuViommu.unit.peek(smmu.kernel, known)), known, asked);
  }

  /** A number stands for one stream: EOPNOTSUPP for a function that has an alias too. ENOMEM. */
  vdeviceInit(viommu: number, pciFunction: Ref<'PciFunction'>, virtId: bigint): 0 | ErrnoName {
    if (streamIdsOf(this.#smmu, pciFunction).length !== 1) return 'EOPNOTSUPP';
    return addVdevice(this.#smmu.kernel, viommu as Ref<'SmmuViommu'>, pciFunction, virtId) ? 0 : 'ENOMEM';
  }

  vdeviceDestroy(viommu: number, pciFunction: Ref<'PciFunction'>): void {
    removeVdevice(this.#smmu.kernel, viommu as Ref<'SmmuViommu'>, pciFunction);
  }

  beginGuestEvents(pciFunction: Ref<'PciFunction'>): GuestEvent[] {
    const smmu = this.#smmu;
    return takeGuestEvents(smmu, smmu.unit(PciFunction.unit.peek(smmu.kernel, pciFunction)));
  }

  endGuestEvents(pciFunction: Ref<'PciFunction'>): void {
    const smmu = this.#smmu;
    SmmuUnitState.guestsLock.release(smmu.kernel, smmu.unit(PciFunction.unit.peek(smmu.kernel, pciFunction)).state);
  }

  /** VMIDs of stage 2, ASIDs of stage 1. */
  #ids(isSecond: boolean): Ref<'IdBitmap'> {
    return (isSecond ? SmmuDriverState.vmids : SmmuDriverState.asids).peek(this.#smmu.kernel, this.#state);
  }

  #device(pciFunction: Ref<'PciFunction'>): Ref<'IommuDevice'> {
    const device = PciFunction.driverData.peek(this.#smmu.kernel, pciFunction) as Ref<'IommuDevice'>;
    assert(device !== NULL, 'the function was probed');
    return device;
  }
}

/** Stream table, queues and status words are frames in RAM; a table of two levels gets its second ones as functions are probed. */
function enableUnit(host: Host, unit: Ref<'SmmuRegisters'>, state: Ref<'SmmuUnitState'>, linear: boolean): void {
  const { kernel, frames } = host;
  const table = frames.allocateRun(Owner.KERNEL, linear ? linearFrames : 1, linear ? linearFrames : 1);
  const [commands, events, status] = [0, 1, 2].map(() => frames.allocate(Owner.KERNEL)) as [Frame, Frame, Frame];
  if (table === 0 || status === 0) fail('ENOMEM', 'no frames for the tables of an IOMMU unit');
  if (linear) abortAll(host, table, (linearFrames * 4096) / entryBytes);
  SmmuUnitState.queueStatus.poke(kernel, state, status);
  SmmuRegisters.streamTableFormat.poke(kernel, unit, linear ? StreamTableFormat.LINEAR : StreamTableFormat.TWO_LEVEL);
  SmmuRegisters.streamBits.poke(kernel, unit, linear ? linearBits : streamBits);
  UnitCommandRing.frame.poke(kernel, SmmuRegisters.commands.peek(kernel, unit), commands);
  EventRing.frame.poke(kernel, SmmuRegisters.events.peek(kernel, unit), events);
  SmmuRegisters.streamTable.poke(kernel, unit, table);
}
