/**
 * The RISC-V driver, strict invalidation (the kernel's `riscv_iommu_ops`): first-stage tables, a device context for each requester, and
 * one PSCID for each domain on every unit.
 */
import type { Engine } from '#hostmem/engine';
import { Owner } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { WalkResult } from '#hostmem/page-walk';
import { pageNumber } from '#hostmem/u64';
import { PciFunction } from '../../hardware/function.ts';
import type { Machine } from '../../hardware/machine.ts';
import { hasOverflowed } from '../../hardware/page-requests.ts';
import { DdtpMode, Mode, QueueStatus, RiscvRegisters } from '../../hardware/riscv/registers.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { allocated, assert, fail } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain, leftByAll } from '../domain.ts';
import { IommuDevice, type AttachError, type HwInfo, type IommuDriver, type MapError, type ReservedRegion, type TakenRequest } from '../driver.ts';
import { DomainIdReturned, LeavesCleared, TablesFreed } from '../events.ts';
import { endOfUnmap } from '../gather.ts';
import { IdBitmap, returnId, takeId } from '../id-bitmap.ts';
import { createPagingDomain, createStaticDomain, isPagingDomain, largestLeaf } from '../paging-domain.ts';
import { requestsCome, takeRequest } from '../request-queue.ts';
import { canAskForPages, controlOf, servesDeviceTlbs, supportsAts } from './ats.ts';
import { flushRange, link, unlink } from './bonds.ts';
import { clearContexts, ensureContextPage, writeContexts, type Context } from './context.ts';
import { domainFormat, Riscv, type RiscvMember } from './riscv.ts';
import { riscvOperations, type RiscvOperations } from './operations.ts';
import { RiscvDriverState, RiscvUnitState } from './unit-state.ts';

/** HW_INFO has no type for RISC-V (IOMMU_HW_INFO_TYPE_NONE); IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED. */
const noHwInfo: HwInfo = { type: 0, flags: 0, words: [], capabilities: 8, maxPasidLog2: 0 };
const noHwInfoButAts: HwInfo = { ...noHwInfo, capabilities: 0 };
/** LOG2SZ-1 of a ring that fills one frame: 256 commands, 128 fault records. */
const commandRing = 7;
const faultRing = 6;

/** Of the machine, whichever IOMMU it has: its functions' writes there are messages and are never translated (`DmaEngine`). */
const interruptWindow: readonly ReservedRegion[] = [{ first: 0xfee00000, last: 0xfeefffff }];

export class RiscvDriver implements IommuDriver {
  readonly blockedDomain: Ref<'IommuDomain'>;
  readonly identityDomain: Ref<'IommuDomain'>;
  readonly #riscv: Riscv;
  readonly #state: Ref<'RiscvDriverState'>;

  /** Joins units that `boot` set up. There is at least one. */
  constructor(host: Host, machine: Machine, operations: RiscvOperations = riscvOperations) {
    this.#riscv = new Riscv(host, machine, operations);
    const first = this.#riscv.units[0];
    assert(first !== undefined, 'the machine has a RISC-V unit');
    this.#state = RiscvUnitState.driver.peek(host.kernel, first.state);
    this.blockedDomain = RiscvDriverState.blockedDomain.peek(host.kernel, this.#state);
    this.identityDomain = RiscvDriverState.identityDomain.peek(host.kernel, this.#state);
  }

  /** Sets up every unit of the machine, once in the life of a host: directory, queues, everything blocked. ENOMEM. */
  static boot(host: Host, machine: Machine): void {
    const kernel = host.kernel;
    const driver = RiscvDriverState.create(kernel);
    RiscvDriverState.pscids.poke(kernel, driver, IdBitmap.create(kernel));
    RiscvDriverState.blockedDomain.poke(kernel, driver, createStaticDomain(kernel, DriverKind.RISCV, DomainKind.BLOCKED));
    RiscvDriverState.identityDomain.poke(kernel, driver, createStaticDomain(kernel, DriverKind.RISCV, DomainKind.IDENTITY));
    for (const { ref } of machine.riscvUnits) {
      const state = RiscvUnitState.create(kernel);
      RiscvUnitState.driver.poke(kernel, state, driver);
      IommuUnit.driverData.poke(kernel, ref, state);
      enableUnit(host, IommuUnit.registers.peek(kernel, ref) as Ref<'RiscvRegisters'>, state);
    }
  }

  engines(): readonly Engine[] {
    const asking = this.#riscv.units.filter(({ ref }) => servesDeviceTlbs(this.#riscv, ref));
    return asking.map(({ submitter }) => submitter.faultHandler);
  }

  probe(pciFunction: Ref<'PciFunction'>): void {
    const { kernel } = this.#riscv;
    const unit = this.#riscv.unit(PciFunction.unit.peek(kernel, pciFunction));
    for (const deviceId of [PciFunction.rid.peek(kernel, pciFunction), PciFunction.sourceId.peek(kernel, pciFunction)])
      if (!ensureContextPage(this.#riscv, unit, deviceId)) fail('ENOMEM', 'no frame for device contexts');
    const device = IommuDevice.create(kernel);
    IommuDevice.function.poke(kernel, device, pciFunction);
    IommuDevice.unit.poke(kernel, device, unit.ref);
    PciFunction.driverData.poke(kernel, pciFunction, device);
  }

  release(pciFunction: Ref<'PciFunction'>): void {
    const { kernel } = this.#riscv;
    const device = this.#device(pciFunction);
    this.#riscv.operations.disableAts(this.#riscv, device);
    this.#enter(device, null, NULL);
    PciFunction.driverData.poke(kernel, pciFunction, NULL);
    IommuDevice.free(kernel, device);
  }

  enableAts(pciFunction: Ref<'PciFunction'>): void {
    this.#riscv.operations.enableAts(this.#riscv, this.#device(pciFunction));
  }

  disableAts(pciFunction: Ref<'PciFunction'>): void {
    this.#riscv.operations.disableAts(this.#riscv, this.#device(pciFunction));
  }

  allocPagingDomain(_pciFunction: Ref<'PciFunction'>, flags: number): Ref<'IommuDomain'> {
    const { kernel, tables } = this.#riscv;
    // Its driver has `domain_alloc_paging` alone, which takes no flags.
    if (flags !== 0) fail('EOPNOTSUPP', `RISC-V has no support for domain flags 0x${flags.toString(16)}`);
    const root = tables.create();
    if (root === 0) fail('ENOMEM', 'no frame for a page table');
    const pscids = RiscvDriverState.pscids.peek(kernel, this.#state);
    const pscid = takeId(kernel, pscids);
    const domain = pscid === 0 ? NULL : createPagingDomain(kernel, DriverKind.RISCV, domainFormat, root, domainFormat.inputBits, pscid);
    if (domain === NULL) {
      tables.destroy(root);
      if (pscid !== 0) returnId(kernel, pscids, pscid);
    }
    return allocated(domain);
  }

  /** Its tables are freed at once: the unit of the last detach has forgotten the address space. */
  freeDomain(domain: Ref<'IommuDomain'>): void {
    const { kernel, tables } = this.#riscv;
    assert(isPagingDomain(kernel, domain), 'static domains are never freed');
    leftByAll(kernel, domain);
    const root = IommuDomain.root.peek(kernel, domain);
    const pscid = IommuDomain.driverData.peek(kernel, domain);
    tables.destroy(root);
    TablesFreed.emit(kernel, root);
    returnId(kernel, RiscvDriverState.pscids.peek(kernel, this.#state), pscid);
    DomainIdReturned.emit(kernel, 0, pscid);
    IommuDomain.free(kernel, domain);
  }

  /** ENODEV for a domain of page requests when the device cannot make any, ENOMEM. What the device had before stays on an error. */
  attach(domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): 0 | AttachError {
    const { kernel } = this.#riscv;
    const device = this.#device(pciFunction);
    const kind = IommuDomain.kind.peek(kernel, domain);
    const control = controlOf(this.#riscv, pciFunction);
    if (kind !== DomainKind.PAGING) {
      this.#enter(device, kind === DomainKind.IDENTITY ? { control, pscid: 0, mode: Mode.BARE, root: 0 as Frame } : null, NULL);
      return 0;
    }
    if (IommuDomain.pageRequests.peek(kernel, domain) !== 0 && !canAskForPages(this.#riscv, pciFunction)) return 'ENODEV';
    if (!link(this.#riscv, domain, device)) return 'ENOMEM';
    const root = IommuDomain.root.peek(kernel, domain);
    this.#enter(device, { control, pscid: IommuDomain.driverData.peek(kernel, domain), mode: Mode.LEVELS4, root }, domain);
    return 0;
  }

  /**
   * The context first, then the old domain's bond: whoever unmaps in the old domain has the unit on its list until nothing uses it. A device with ATS leaves it
   * while it has no context, and so can ask for nothing: what it keeps would be used again under the new one. A context of null blocks.
   */
  #enter(device: Ref<'IommuDevice'>, context: Context | null, domain: Ref<'IommuDomain'>): void {
    const riscv = this.#riscv;
    const { kernel } = riscv;
    const unit = this.#unitOf(device);
    const pciFunction = IommuDevice.function.peek(kernel, device);
    const before = IommuDevice.domain.peek(kernel, device);
    const leavesFirst = IommuDevice.atsEnabled.peek(kernel, device) !== 0;
    IommuDevice.domain.poke(kernel, device, domain);
    const wasPassing = clearContexts(riscv, unit, pciFunction) && before === NULL;
    if (wasPassing) riscv.operations.forgetKept(riscv, device);
    if (leavesFirst && before !== NULL) unlink(riscv, before, device);
    if (context !== null) writeContexts(riscv, unit, pciFunction, context);
    if (!leavesFirst && before !== NULL) unlink(riscv, before, device);
  }

  takesPageRequests(pciFunction: Ref<'PciFunction'>): boolean {
    return canAskForPages(this.#riscv, pciFunction);
  }

  pageRequestsSoFar(pciFunction: Ref<'PciFunction'>): number {
    return requestsCome(this.#riscv.kernel, this.#pageRequests(pciFunction));
  }

  takePageRequest(pciFunction: Ref<'PciFunction'>, count: number): TakenRequest | null {
    return takeRequest(this.#riscv.kernel, this.#pageRequests(pciFunction), count);
  }

  drainPageRequests(pciFunction: Ref<'PciFunction'>): boolean {
    this.#riscv.operations.drainPageRequests(this.#riscv, this.#device(pciFunction));
    return !hasOverflowed(this.#riscv.kernel, this.#pageRequests(pciFunction));
  }

  answerPage(pciFunction: Ref<'PciFunction'>, group: number, code: number, pasid: number | null): void {
    const { kernel } = this.#riscv;
    this.#unitOf(this.#device(pciFunction)).submitter.answerPage(PciFunction.rid.peek(kernel, pciFunction), group, code, pasid).submit();
  }

  #pageRequests(pciFunction: Ref<'PciFunction'>): Ref<'PageRequests'> {
    return IommuUnit.pageRequests.peek(this.#riscv.kernel, PciFunction.unit.peek(this.#riscv.kernel, pciFunction));
  }

  map(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pages: number = 1): 0 | MapError {
    if ((iovaLow & 0xfff) !== 0 || !isPagingDomain(this.#riscv.kernel, domain)) return 'EINVAL';
    const { kernel, tables } = this.#riscv;
    const root = IommuDomain.root.peek(kernel, domain);
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
    const { kernel, tables, gather } = this.#riscv;
    const root = IommuDomain.root.peek(kernel, domain);
    const first = pageNumber(iovaHigh, iovaLow);
    const end = endOfUnmap(tables, root, first, first + pages);
    const removed = tables.unmap(root, iovaHigh, iovaLow, pages);
    if (removed > 0) LeavesCleared.emit(kernel, root, iovaHigh, iovaLow, end - first);
    gather.set(domain, first, first + pages, end);
    return removed;
  }

  /** Removed tables need no more than removed leaves: this unit caches none. */
  sync(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number): void {
    const first = pageNumber(iovaHigh, iovaLow);
    flushRange(this.#riscv, domain, iovaHigh, iovaLow, this.#riscv.gather.endOf(domain, first, first + pages) - first);
  }

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    return this.#riscv.tables.translate(IommuDomain.root.peek(this.#riscv.kernel, domain), iovaHigh, iovaLow, result);
  }

  hwInfo(pciFunction: Ref<'PciFunction'>): HwInfo {
    return supportsAts(this.#riscv, pciFunction) ? noHwInfoButAts : noHwInfo;
  }

  reservedRegions(): readonly ReservedRegion[] {
    return interruptWindow;
  }

  #unitOf(device: Ref<'IommuDevice'>): RiscvMember {
    return this.#riscv.unit(IommuDevice.unit.peek(this.#riscv.kernel, device));
  }

  #device(pciFunction: Ref<'PciFunction'>): Ref<'IommuDevice'> {
    const device = PciFunction.driverData.peek(this.#riscv.kernel, pciFunction) as Ref<'IommuDevice'>;
    assert(device !== NULL, 'the function was probed');
    return device;
  }
}

/** Directory, queues and status words are frames in RAM; the queues are enabled, then the directory. */
function enableUnit(host: Host, unit: Ref<'RiscvRegisters'>, state: Ref<'RiscvUnitState'>): void {
  const kernel = host.kernel;
  const directory = kernelFrame(host);
  const queue = kernelFrame(host);
  RiscvUnitState.directory.poke(kernel, state, directory);
  RiscvUnitState.queue.poke(kernel, state, queue);
  RiscvUnitState.queueStatus.poke(kernel, state, kernelFrame(host));
  RiscvRegisters.commandQueue.poke(kernel, unit, 0, (queue << 10) | commandRing);
  RiscvRegisters.commandStatus.poke(kernel, unit, QueueStatus.ENABLED | QueueStatus.ON);
  RiscvRegisters.faultQueue.poke(kernel, unit, 0, (kernelFrame(host) << 10) | faultRing);
  RiscvRegisters.faultStatus.poke(kernel, unit, QueueStatus.ENABLED | QueueStatus.ON);
  RiscvRegisters.ddtp.poke(kernel, unit, 0, (directory << 10) | DdtpMode.LEVELS2);
}

function kernelFrame(host: Host): Frame {
  const frame = host.frames.allocate(Owner.KERNEL);
  if (frame === 0) fail('ENOMEM', 'no frame for the tables of an IOMMU unit');
  return frame;
}
