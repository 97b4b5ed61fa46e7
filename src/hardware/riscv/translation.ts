/**
 * How a RISC-V IOMMU answers a request (RISC-V IOMMU specification, "Process to translate an IOVA"): device directory, device context,
 * process directory and context, first stage, second stage. The order of the checks is the specification's.
 *
 * It knows of the kernel what the tables in RAM and the unit's registers say. Directories are read entry by entry, contexts in pieces of
 * `fetchBits`, in ascending order, each piece one point: what a writer changes in between is seen torn. Contexts may come from caches
 * (`directory-caches.ts`). Not modelled here: MSI translation, big-endian tables, 32-bit guests.
 */
import { peek, read64 } from '#hostmem/atomics';
import { pbmtShift, Pte, riscv } from '#hostmem/formats/riscv';
import type { Host } from '#hostmem/host';
import { highOf, lowOf, pageNumber } from '#hostmem/iova';
import { pageBytes, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { PageTableFormat } from '#hostmem/page-table-format';
import { fetchEntry } from '../entry-fetch.ts';
import { entryFetched, TableKind } from '../events.ts';
import { accessFault, Cause, guestPageFault, pageFault, Want } from './cause.ts';
import * as device from './device-context.ts';
import { Field, Tc } from './device-context.ts';
import type { DirectoryCaches } from './directory-caches.ts';
import * as process from './process-context.ts';
import { ProcessField, Ta } from './process-context.ts';
import { Capability, DdtpMode, levelsOf, Mode, RiscvRegisters } from './registers.ts';
import { Privilege, StageFault, StageWalk } from './stage-walk.ts';

/** Whether the address of a request is an IOVA, one that the unit gave out, or an IOVA to be told about (ATS). */
export const AddressType = { UNTRANSLATED: 0, TRANSLATED: 1, TRANSLATION_REQUEST: 2 } as const;
export type AddressType = (typeof AddressType)[keyof typeof AddressType];

/** In place of a process id: the request carries none. */
export const noProcess = -1;

/** A request; its owner fills it anew for each one. */
export class RiscvRequest {
  deviceId = 0;
  processId = noProcess;
  /** Asks as a supervisor; only with a process id. */
  supervisor = false;
  type: AddressType = AddressType.UNTRANSLATED;
  /** `Want` bits. Of an ATS request: `WRITE` unless its No Write flag is set; it faults as the read that it is. */
  wanted = 0;
  iovaHigh = 0;
  iovaLow = 0;
}

/** Where a stage-2 fault was: `iotval2`. */
export class GuestAddress {
  page = 0;
  offset = 0;
  implicit = false;
  write = false;
}

/** One thread's view of the translation hardware of one unit; the fields tell of the last translation. */
export class RiscvTranslation {
  /** The page that the request reaches: a frame, also beyond RAM; the guest's page for an ATS request of a device with T2GPA. */
  frame = 0 as Frame;
  /** Size of the smallest leaf on the way, in pages; 0 when there was none. */
  pages = 0;
  readonly first: StageWalk;
  readonly second: StageWalk;
  /** What `find` found: tables of the first stage, of the second, or that the request passes without. */
  walkedFirst = false;
  walkedSecond = false;
  passes = false;
  /** The address space of the first stage, by which translations are told apart in caches, and the root of its tables. */
  pscid = 0;
  root = 0 as Frame;
  /** Where a guest-page fault was. */
  readonly guest = new GuestAddress();
  /** tc of the device's context; 0 until it was found to be good. */
  control = 0;
  readonly #ram: Memory;
  readonly #kernel: Memory;
  readonly #frameCount: number;
  readonly #capabilities: number;
  readonly #capabilitiesHigh: number;
  readonly #ddtpAt: number;
  readonly #fetchBits: number;
  /** By number of levels. */
  readonly #firstFormats: readonly (PageTableFormat | null)[];
  readonly #secondFormats: readonly (PageTableFormat | null)[];
  readonly #device = new Int32Array(device.contextWords);
  readonly #process = new Int32Array(process.processContextWords);
  readonly #caches: DirectoryCaches | null;
  #at = 0;

  /** `caches` is null for a unit without, and for who only looks. */
  constructor(host: Host, registers: Ref<'RiscvRegisters'>, caches: DirectoryCaches | null = null) {
    const { ram, kernel } = host;
    this.#caches = caches;
    this.#ram = ram;
    this.#kernel = kernel;
    this.#frameCount = ram.sizeBytes / pageBytes;
    this.#capabilities = RiscvRegisters.capabilities.peek(kernel, registers);
    this.#capabilitiesHigh = RiscvRegisters.capabilities.peekHigh(kernel, registers);
    this.#ddtpAt = RiscvRegisters.ddtp.address(kernel, registers);
    this.#fetchBits = RiscvRegisters.fetchBits.peek(kernel, registers);
    const svpbmt = (this.#capabilities & Capability.SVPBMT) !== 0;
    const svrsw60t59b = (this.#capabilities & Capability.SVRSW60T59B) !== 0;
    const format = (levels: 3 | 4 | 5, second: boolean): PageTableFormat => riscv({ levels, second, svpbmt, svrsw60t59b });
    this.#firstFormats = [null, null, null, format(3, false), format(4, false), format(5, false)];
    this.#secondFormats = [null, null, null, format(3, true), format(4, true), format(5, true)];
    this.second = new StageWalk(ram, null);
    this.first = new StageWalk(ram, this.second);
  }

  /** Translates the page of a request. Returns the fault's cause, 0 for none. */
  translate(request: RiscvRequest): number {
    return this.find(request) || (this.passes ? Cause.NONE : this.walk(request));
  }

  /**
   * Finds the tables of a request, which `walk` then goes through; or, where it `passes`, there are none to look at and `frame` is known.
   * Returns the fault's cause, 0 for none.
   */
  find(request: RiscvRequest): number {
    this.control = 0;
    this.pages = 0;
    this.walkedFirst = this.walkedSecond = this.passes = false;
    const ddtpLow = peek(this.#kernel, this.#ddtpAt);
    const mode = ddtpLow & 15;
    if (mode === DdtpMode.OFF) return Cause.ALL_DISALLOWED;
    if (mode === DdtpMode.BARE) return request.type === AddressType.UNTRANSLATED ? this.#pass(request) : Cause.TYPE_DISALLOWED;
    const refused = this.#findDevice(request.deviceId, mode - DdtpMode.BARE, ddtpLow) || this.#admit(request);
    if (refused !== 0) return refused;
    if (request.type === AddressType.TRANSLATED && (this.control & Tc.T2GPA) === 0) return this.#pass(request);
    return this.#useStages(request);
  }

  #pass(request: RiscvRequest): number {
    this.frame = pageNumber(request.iovaHigh, request.iovaLow) as Frame;
    this.passes = true;
    return Cause.NONE;
  }

  /** Finds the device's context: in the cache, or by a walk of the device directory. */
  #findDevice(deviceId: number, levels: number, ddtpLow: number): number {
    const extended = (this.#capabilities & Capability.MSI_FLAT) !== 0;
    const bits = device.leafBits(extended);
    if (levels < 3 && deviceId >>> (bits + 9 * (levels - 1)) !== 0) return Cause.TYPE_DISALLOWED;
    const caches = this.#caches;
    if (caches !== null && caches.findDevice(deviceId, this.#device)) {
      this.control = this.#device[Field.TC]!;
      return Cause.NONE;
    }
    const epoch = caches === null ? 0 : caches.epoch();
    let table: number = device.entryFrame(peek(this.#kernel, this.#ddtpAt + 4), ddtpLow);
    for (let level = levels - 1; level > 0; level--) {
      if (table >= this.#frameCount) return Cause.DDT_ACCESS;
      const low = read64(this.#ram, table * pageBytes + ((deviceId >>> (bits + 9 * (level - 1))) & 511) * 8, device.directoryLabel);
      const high = this.#ram.high;
      if (!device.isValidEntry(low)) return Cause.DDT_NOT_VALID;
      if (device.isReservedEntry(high, low)) return Cause.DDT_MISCONFIGURED;
      table = device.entryFrame(high, low);
    }
    if (table >= this.#frameCount) return Cause.DDT_ACCESS;
    const bytes = device.contextBytes(extended);
    const context = this.#device;
    fetchEntry(this.#ram, table * pageBytes + (deviceId & ((1 << bits) - 1)) * bytes, context, bytes >>> 3, this.#fetchBits, device.contextLabels);
    if ((context[Field.TC]! & Tc.VALID) === 0) return Cause.DDT_NOT_VALID;
    entryFetched.emit(this.#kernel, TableKind.DEVICE_CONTEXT, deviceId, 0, context[Field.TC]!, context[Field.TA]!, context[Field.FSC]!);
    if (device.isMisconfigured(context, this.#capabilities, this.#capabilitiesHigh)) return Cause.DDT_MISCONFIGURED;
    this.control = context[Field.TC]!;
    if (caches !== null) caches.fillDevice(deviceId, context, epoch);
    return Cause.NONE;
  }

  /** Whether the device may ask in this way. */
  #admit({ type, processId }: RiscvRequest): number {
    if (type !== AddressType.UNTRANSLATED && (this.control & Tc.EN_ATS) === 0) return Cause.TYPE_DISALLOWED;
    if (processId === noProcess) return Cause.NONE;
    if ((this.control & Tc.PDTV) === 0) return Cause.TYPE_DISALLOWED;
    const levels = device.modeOf(this.#device[Field.FSC + 1]!);
    return levels !== Mode.BARE && processId >>> process.pidBits(levels) !== 0 ? Cause.TYPE_DISALLOWED : Cause.NONE;
  }

  /** Finds the tables of both stages. */
  #useStages(request: RiscvRequest): number {
    const context = this.#device;
    const iohgatpHigh = context[Field.IOHGATP + 1]!;
    const format = this.#secondFormats[levelsIn(device.modeOf(iohgatpHigh))]!;
    this.second.use(format, device.fieldFrame(iohgatpHigh, context[Field.IOHGATP]!), (this.control & Tc.GADE) !== 0);
    this.walkedSecond = format !== null;
    if (request.type === AddressType.TRANSLATED) return this.#useFirst(0, 0, 0);
    if ((this.control & Tc.PDTV) === 0) return this.#useFirst(context[Field.FSC + 1]!, context[Field.FSC]!, context[Field.TA]!);
    const levels = device.modeOf(context[Field.FSC + 1]!);
    const processId = request.processId === noProcess && (this.control & Tc.DPE) !== 0 ? 0 : request.processId;
    if (processId === noProcess || levels === Mode.BARE) return this.#useFirst(0, 0, 0);
    const refused = this.#findProcess(processId, levels, request);
    if (refused !== 0) return refused;
    if (request.supervisor && (this.#process[ProcessField.TA]! & Ta.ENS) === 0) return Cause.TYPE_DISALLOWED;
    return this.#useFirst(this.#process[ProcessField.FSC + 1]!, this.#process[ProcessField.FSC]!, this.#process[ProcessField.TA]!);
  }

  #useFirst(fscHigh: number, fscLow: number, ta: number): number {
    const mode = device.modeOf(fscHigh);
    this.walkedFirst = mode !== Mode.BARE;
    this.pscid = device.pscidOf(ta);
    this.root = device.fieldFrame(fscHigh, fscLow);
    this.first.use(this.#firstFormats[levelsIn(mode)]!, this.root, (this.control & Tc.SADE) !== 0);
    return Cause.NONE;
  }

  /** Finds the process's context: in the cache, or by a walk of the process directory. Its pages are guest memory where there is a second stage. */
  #findProcess(processId: number, levels: number, request: RiscvRequest): number {
    const context = this.#device;
    const caches = this.#caches;
    if (caches !== null && caches.findProcess(request.deviceId, processId, this.#process)) return Cause.NONE;
    const epoch = caches === null ? 0 : caches.epoch();
    let table: number = device.fieldFrame(context[Field.FSC + 1]!, context[Field.FSC]!);
    for (let level = levels - 1; level > 0; level--) {
      const refused = this.#locate(table, ((processId >>> (8 + 9 * (level - 1))) & 511) * 8, request);
      if (refused !== 0) return refused;
      const low = read64(this.#ram, this.#at, process.pdtLabel);
      const high = this.#ram.high;
      if (!device.isValidEntry(low)) return Cause.PDT_NOT_VALID;
      if (device.isReservedEntry(high, low)) return Cause.PDT_MISCONFIGURED;
      table = device.entryFrame(high, low);
    }
    const refused = this.#locate(table, (processId & 255) * 16, request);
    if (refused !== 0) return refused;
    fetchEntry(this.#ram, this.#at, this.#process, process.processContextWords / 2, this.#fetchBits, process.processContextLabels);
    if ((this.#process[ProcessField.TA]! & Ta.VALID) === 0) return Cause.PDT_NOT_VALID;
    if (process.isMisconfiguredProcess(this.#process, this.#capabilities)) return Cause.PDT_MISCONFIGURED;
    if (caches !== null) caches.fillProcess(request.deviceId, processId, this.#process, epoch);
    return Cause.NONE;
  }

  /** Where a piece of the process directory is in memory. */
  #locate(table: number, offset: number, request: RiscvRequest): number {
    const second = this.second;
    const fault = second.walk(highOf(table), lowOf(table) | offset, Want.READ, Privilege.USER, true);
    if (fault === StageFault.PAGE) return this.#guestFault(offset, true, false, request);
    if (fault !== StageFault.NONE || second.frame >= this.#frameCount) return Cause.PDT_ACCESS;
    this.#at = second.frame * pageBytes + offset;
    return Cause.NONE;
  }

  /** Goes through the tables that `find` found. Returns as `translate`. */
  walk(request: RiscvRequest): number {
    const { first, second } = this;
    const { iovaHigh, iovaLow, wanted } = request;
    const insists = request.type !== AddressType.TRANSLATION_REQUEST;
    const fault = first.walk(iovaHigh, iovaLow, wanted, this.#privilege(request), insists);
    if (fault === StageFault.PAGE) return pageFault(faultsAs(request));
    if (fault === StageFault.IMPLICIT && second.fault === StageFault.PAGE) return this.#guestFault(0, true, first.implicitWrite, request);
    if (fault !== StageFault.NONE) return accessFault(faultsAs(request));
    const guestPage = first.frame;
    const refused = second.walk(highOf(guestPage), lowOf(guestPage), wanted, Privilege.USER, insists);
    if (refused === StageFault.PAGE) return this.#guestFault(iovaLow & (pageBytes - 1), false, false, request);
    if (refused !== StageFault.NONE) return accessFault(faultsAs(request));
    this.pages = smaller(first.pages, second.pages);
    this.frame = !insists && (this.control & Tc.T2GPA) !== 0 ? guestPage : second.frame;
    return Cause.NONE;
  }

  /**
   * What an ATS request that was translated is granted, `Want` bits: execution only where it was asked for and with reading, writing
   * only through leaves that are dirty already. 0 is no access.
   */
  permissions({ wanted }: RiscvRequest): number {
    const { first, second } = this;
    const both = first.entryLow & second.entryLow;
    if ((both & Pte.READ) === 0) return 0;
    const writes = (both & Pte.WRITE) !== 0 && (both & Pte.DIRTY) !== 0 ? Want.WRITE : 0;
    return Want.READ | writes | ((both & Pte.EXECUTE) !== 0 ? wanted & Want.EXECUTE : 0);
  }

  /** PBMT of the first stage unless that is 0, else of the second; 0 where no table was walked. */
  get memoryType(): number {
    if (this.pages === 0) return 0;
    return ((this.first.entryHigh >>> pbmtShift) & 3) || ((this.second.entryHigh >>> pbmtShift) & 3);
  }

  #privilege({ supervisor }: RiscvRequest): Privilege {
    if (!supervisor || !this.walkedFirst) return Privilege.USER;
    return (this.#process[ProcessField.TA]! & Ta.SUM) !== 0 ? Privilege.SUPERVISOR_AND_USER : Privilege.SUPERVISOR;
  }

  #guestFault(offset: number, implicit: boolean, write: boolean, request: RiscvRequest): number {
    const guest = this.guest;
    guest.page = this.second.page;
    guest.offset = offset;
    guest.implicit = implicit;
    guest.write = write;
    return guestPageFault(faultsAs(request));
  }
}

const faultsAs = ({ type, wanted }: RiscvRequest): number => (type === AddressType.TRANSLATION_REQUEST ? wanted & ~Want.WRITE : wanted);
const levelsIn = (mode: number): number => (mode === Mode.BARE ? 0 : levelsOf(mode));

/** Of two sizes of which 0 is none. */
function smaller(a: number, b: number): number {
  return a === 0 || (b !== 0 && b < a) ? b : a;
}
