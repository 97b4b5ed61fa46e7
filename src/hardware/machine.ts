/**
 * The hardware of one host: its IOMMU units and PCI functions.
 *
 * The world builds it with `Machine.create`, `addUnit` and `addFunction` before any thread joins; each thread then takes a
 * `Machine` of its own over the host, which gives it the units, their engines and the DMA engines of functions.
 */
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { CommandBuffer } from './amd/command-buffer.ts';
import { AmdRegisters } from './amd/registers.ts';
import { AmdUnit } from './amd/unit.ts';
import { Atc, AtcInvalidation } from './atc.ts';
import { UnitCommandRing, type CommandEngine } from './command-engine.ts';
import { DmaEngine } from './dma-engine.ts';
import { EventRing } from './event-ring.ts';
import { PciFunction } from './function.ts';
import { MockUnit } from './mock/unit.ts';
import { Iotlb } from './iotlb.ts';
import { CommandQueue } from './riscv/command-queue.ts';
import { Capability, RiscvRegisters, worldCapabilities, worldCapabilitiesHigh, type RiscvUnitOptions } from './riscv/registers.ts';
import { RiscvUnit } from './riscv/unit.ts';
import { SmmuCommandQueue } from './smmuv3/command-queue.ts';
import { SmmuRegisters } from './smmuv3/registers.ts';
import { SmmuUnit } from './smmuv3/unit.ts';
import { TaggedCache } from './tagged-cache.ts';
import { TranslationUnit } from './translation-unit.ts';
import { PageRequests } from './page-requests.ts';
import { RequestArrival } from './request-arrival.ts';
import { TrustedPath } from './trusted-path.ts';
import { createInterface, createTrustedRoot, type OwnershipRules } from './trusted-unit.ts';
import type { Translator } from './translator.ts';
import { IommuUnit, UnitKind, type EntryUnitOptions } from './unit.ts';
import { InvalidationQueue } from './vtd/invalidation-queue.ts';
import * as registers from './vtd/registers.ts';
import { VtdRegisters } from './vtd/registers.ts';

const MachineRecord = object('Machine', { firstUnit: ref('IommuUnit'), units: u32, firstFunction: ref('PciFunction') });

export interface VtdUnitOptions {
  /** Which defaults CAP and ECAP have: those of the recorded unit in legacy mode or in scalable mode, or of one with a first stage. */
  readonly mode?: keyof typeof registers.defaultCapabilities;
  /** Whether ECAP says, beside what it says already, that the unit serves device TLBs. */
  readonly ats?: boolean;
  /** Whether the unit takes page requests (ECAP.PRS). */
  readonly pageRequests?: boolean;
  /** Whether ECAP says, beside what it says already, that requests may carry PASIDs. */
  readonly pasids?: boolean;
  /** CAP and ECAP. */
  readonly capability?: bigint;
  readonly extendedCapability?: bigint;
  /** How many bits of a context or PASID entry the unit fetches at once; 128 by default, 512 is any entry as a whole. */
  readonly fetchBits?: 64 | 128 | 512;
  /** Whether the unit has caches at all; on by default. Without, every request reads every entry and walks from the root. */
  readonly caches?: 'on' | 'off';
  /** Each cache, by default as `caches` says. */
  readonly iotlb?: boolean;
  readonly contextCache?: boolean;
  readonly pasidCache?: boolean;
  readonly walkCache?: boolean;
  /** Whose numbers the unit gives as fault reasons in scalable mode: by default the specification's. */
  readonly faultReasons?: 'specification' | 'recorded';
}

export interface PciFunctionOptions {
  /** `bus << 8 | device << 3 | function`. */
  readonly rid: number;
  /** Whether it has ATS, which software may enable. */
  readonly ats?: boolean;
  /** How many PASIDs its requests may carry; 0, the default, for a function without the capability. */
  readonly pasids?: number;
  /** Whether it has PRI. */
  readonly pageRequests?: boolean;
  /** The id under which its requests reach the unit, where a bridge takes ownership of them; `rid` by default. */
  readonly sourceId?: number;
}

/** A unit as one thread sees it. */
export class Unit {
  readonly ref: Ref<'IommuUnit'>;
  readonly translation: TranslationUnit;
  readonly queue: InvalidationQueue;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    this.ref = unit;
    this.translation = new TranslationUnit(host, unit);
    this.queue = new InvalidationQueue(host, unit);
  }
}

export interface RiscvUnitOfMachine {
  readonly ref: Ref<'IommuUnit'>;
  readonly translation: RiscvUnit;
  readonly queue: CommandQueue;
}

/** A unit of AMD's or Arm's. */
export interface EntryUnitOfMachine {
  readonly ref: Ref<'IommuUnit'>;
  readonly translation: Translator;
  readonly queue: CommandEngine;
}

/** A unit without a queue: there is nothing to be told to it. */
interface MockUnitOfMachine {
  readonly ref: Ref<'IommuUnit'>;
  readonly translation: MockUnit;
}

export class Machine {
  /** By vendor; a machine has one kind. */
  readonly units: readonly Unit[];
  readonly riscvUnits: readonly RiscvUnitOfMachine[];
  readonly amdUnits: readonly EntryUnitOfMachine[];
  readonly smmuUnits: readonly EntryUnitOfMachine[];
  readonly mockUnits: readonly MockUnitOfMachine[];
  readonly #host: Host;

  /** Joins the machine of a host that `create` made. Units added later are not seen. */
  constructor(host: Host) {
    this.#host = host;
    const units: Unit[] = [];
    const riscvUnits: RiscvUnitOfMachine[] = [];
    const amdUnits: EntryUnitOfMachine[] = [];
    const smmuUnits: EntryUnitOfMachine[] = [];
    const mockUnits: MockUnitOfMachine[] = [];
    for (const at of unitsOf(host)) {
      const kind = IommuUnit.kind.peek(host.kernel, at);
      if (kind === UnitKind.VTD) units.push(new Unit(host, at));
      else if (kind === UnitKind.AMD) amdUnits.push({ ref: at, translation: new AmdUnit(host, at), queue: new CommandBuffer(host, at) });
      else if (kind === UnitKind.SMMUV3) smmuUnits.push({ ref: at, translation: new SmmuUnit(host, at), queue: new SmmuCommandQueue(host, at) });
      else if (kind === UnitKind.MOCK) mockUnits.push({ ref: at, translation: new MockUnit(host, at) });
      else riscvUnits.push({ ref: at, translation: new RiscvUnit(host, at), queue: new CommandQueue(host, at) });
    }
    this.units = units;
    this.riscvUnits = riscvUnits;
    this.amdUnits = amdUnits;
    this.smmuUnits = smmuUnits;
    this.mockUnits = mockUnits;
  }

  /** An empty machine, kept as the host's. */
  static create(host: Host): void {
    host.machine = MachineRecord.create(host.kernel);
  }

  /** Adds a VT-d unit as it is after reset: it translates nothing until software sets it up. */
  static addUnit(host: Host, options: VtdUnitOptions = {}): Ref<'IommuUnit'> {
    const { kernel } = host;
    const unit = link(host, UnitKind.VTD);
    IommuUnit.registers.poke(kernel, unit, createRegisters(host, options));
    createCaches(host, unit, options);
    if (options.pageRequests === true) addRequestQueue(host, unit);
    return unit;
  }

  /** Adds a RISC-V unit as it is after reset: it lets nothing pass until software sets it up. */
  static addRiscvUnit(host: Host, options: RiscvUnitOptions = {}): Ref<'IommuUnit'> {
    const { kernel } = host;
    const unit = link(host, UnitKind.RISCV);
    const created = RiscvRegisters.create(kernel);
    RiscvRegisters.capabilities.poke(kernel, created, worldCapabilitiesHigh, worldCapabilities | (options.ats === true ? Capability.ATS : 0));
    RiscvRegisters.fetchBits.poke(kernel, created, options.fetchBits ?? 128);
    IommuUnit.registers.poke(kernel, unit, created);
    const isOn = (one: boolean | undefined): boolean => one ?? options.caches !== 'off';
    IommuUnit.iotlb.poke(kernel, unit, createIotlb(host, isOn(options.iotlb)));
    IommuUnit.contextCache.poke(kernel, unit, createCache(host, isOn(options.deviceContexts)));
    IommuUnit.pasidCache.poke(kernel, unit, createCache(host, isOn(options.processContexts)));
    if (options.pageRequests === true) addRequestQueue(host, unit);
    return unit;
  }

  /** Adds a unit of AMD's as it is after reset: it lets everything pass until software gives it a device table. */
  static addAmdUnit(host: Host, options: EntryUnitOptions = {}): Ref<'IommuUnit'> {
    const { kernel } = host;
    const unit = link(host, UnitKind.AMD);
    const created = AmdRegisters.create(kernel);
    AmdRegisters.commands.poke(kernel, created, UnitCommandRing.create(kernel));
    AmdRegisters.events.poke(kernel, created, EventRing.create(kernel));
    AmdRegisters.fetchBits.poke(kernel, created, options.fetchBits ?? 128);
    IommuUnit.registers.poke(kernel, unit, created);
    IommuUnit.iotlb.poke(kernel, unit, createIotlb(host, options.caches !== 'off'));
    IommuUnit.contextCache.poke(kernel, unit, createCache(host, options.caches !== 'off'));
    return unit;
  }

  /** Adds an SMMUv3 as it is after reset: it lets everything pass until software gives it a stream table. */
  static addSmmuUnit(host: Host, options: EntryUnitOptions = {}): Ref<'IommuUnit'> {
    const { kernel } = host;
    const unit = link(host, UnitKind.SMMUV3);
    const created = SmmuRegisters.create(kernel);
    SmmuRegisters.commands.poke(kernel, created, UnitCommandRing.create(kernel));
    SmmuRegisters.events.poke(kernel, created, EventRing.create(kernel));
    SmmuRegisters.fetchBits.poke(kernel, created, options.fetchBits ?? 128);
    IommuUnit.registers.poke(kernel, unit, created);
    IommuUnit.iotlb.poke(kernel, unit, createIotlb(host, options.caches !== 'off'));
    IommuUnit.contextCache.poke(kernel, unit, createCache(host, options.caches !== 'off'));
    IommuUnit.pasidCache.poke(kernel, unit, createCache(host, options.caches !== 'off'));
    return unit;
  }

  /** Adds a mock unit: every function is blocked until software gives it tables. */
  static addMockUnit(host: Host): Ref<'IommuUnit'> {
    const unit = link(host, UnitKind.MOCK);
    IommuUnit.iotlb.poke(host.kernel, unit, createIotlb(host, false));
    return unit;
  }

  /** Adds a function behind a unit. */
  static addFunction(host: Host, unit: Ref<'IommuUnit'>, options: PciFunctionOptions): Ref<'PciFunction'> {
    const { kernel, machine } = host;
    const added = PciFunction.create(kernel);
    PciFunction.rid.poke(kernel, added, options.rid);
    PciFunction.sourceId.poke(kernel, added, options.sourceId ?? options.rid);
    PciFunction.unit.poke(kernel, added, unit);
    PciFunction.pasids.poke(kernel, added, options.pasids ?? 0);
    PciFunction.nextGroup.poke(kernel, added, options.pageRequests === true ? 1 : 0);
    if (options.ats === true) PciFunction.atc.poke(kernel, added, createAtc(host));
    PciFunction.nextOfMachine.poke(kernel, added, MachineRecord.firstFunction.peek(kernel, machine));
    PciFunction.nextOfUnit.poke(kernel, added, IommuUnit.firstFunction.peek(kernel, unit));
    MachineRecord.firstFunction.poke(kernel, machine, added);
    IommuUnit.firstFunction.poke(kernel, unit, added);
    createInterface(kernel, added);
    return added;
  }

  /** Gives the machine's units a trusted side; functions that are added from now on have device interfaces. */
  static addTrustedSide(host: Host, rules: OwnershipRules): void {
    createTrustedRoot(host.kernel, unitsOf(host), rules);
  }

  /** All functions, in the order of their requester ids. */
  functions(): Ref<'PciFunction'>[] {
    const kernel = this.#host.kernel;
    const found: Ref<'PciFunction'>[] = [];
    for (let at = MachineRecord.firstFunction.peek(kernel, this.#host.machine); at !== NULL; at = PciFunction.nextOfMachine.peek(kernel, at)) found.push(at);
    return found.sort((a, b) => PciFunction.rid.peek(kernel, a) - PciFunction.rid.peek(kernel, b));
  }

  /** The unit that a function is behind. */
  unitOf(pciFunction: Ref<'PciFunction'>): Unit {
    return this.unit(PciFunction.unit.peek(this.#host.kernel, pciFunction));
  }

  unit(unit: Ref<'IommuUnit'>): Unit {
    const number = IommuUnit.number.peek(this.#host.kernel, unit);
    return this.units[number]!;
  }

  /** The DMA engine of a function; the thread that drives the function takes one. */
  dma(pciFunction: Ref<'PciFunction'>): DmaEngine {
    const unit = PciFunction.unit.peek(this.#host.kernel, pciFunction);
    const others = [...this.riscvUnits, ...this.amdUnits, ...this.smmuUnits, ...this.mockUnits];
    const { translation } = others.find(({ ref }) => ref === unit) ?? this.unit(unit);
    const isConfidential = PciFunction.tdi.peek(this.#host.kernel, pciFunction) !== NULL;
    return new DmaEngine(this.#host, isConfidential ? new TrustedPath(this.#host, translation, pciFunction) : translation, pciFunction);
  }

  /** The parts that act by themselves. */
  engines(): readonly Engine[] {
    const kernel = this.#host.kernel;
    const withAtc = this.functions().filter((one) => PciFunction.atc.peek(kernel, one) !== NULL);
    const queues = [...this.units, ...this.riscvUnits, ...this.amdUnits, ...this.smmuUnits].map((unit) => unit.queue);
    const arrivals = [...this.units, ...this.riscvUnits].map(({ ref }) => IommuUnit.pageRequests.peek(kernel, ref)).filter((one) => one !== NULL).map((one) => new RequestArrival(this.#host, one));
    return [...queues, ...withAtc.map((one) => new AtcInvalidation(this.#host, one)), ...arrivals];
  }
}

function createRegisters({ kernel }: Host, options: VtdUnitOptions): Ref<'VtdRegisters'> {
  const created = VtdRegisters.create(kernel);
  const defaults = registers.defaultCapabilities[options.mode ?? 'vtd-legacy'];
  const extended = options.extendedCapability ?? defaults.extended;
  VtdRegisters.capability.pokeBig(kernel, created, options.capability ?? defaults.capability);
  VtdRegisters.extendedCapability.pokeBig(kernel, created, extended | (options.ats === true ? registers.deviceTlbs : 0n) | (options.pasids === true ? registers.pasids : 0n) | (options.pageRequests === true ? registers.pageRequests : 0n));
  VtdRegisters.fetchBits.poke(kernel, created, options.fetchBits ?? 128);
  VtdRegisters.recordedReasons.poke(kernel, created, options.faultReasons === 'recorded' ? 1 : 0);
  const records = registers.faultRecordsOf(VtdRegisters.capability.peekHigh(kernel, created));
  if (records > registers.mostFaultRecords) throw new Error(`a unit with ${records} fault records; ${registers.mostFaultRecords} is the most`);
  return created;
}

function addRequestQueue({ kernel }: Host, unit: Ref<'IommuUnit'>): void {
  const queue = PageRequests.create(kernel);
  PageRequests.unit.poke(kernel, queue, unit);
  IommuUnit.pageRequests.poke(kernel, unit, queue);
}

function createAtc(host: Host): Ref<'Atc'> {
  const { kernel } = host;
  const atc = Atc.create(kernel);
  Atc.lines.poke(kernel, atc, createCache(host, true));
  return atc;
}

function createIotlb({ kernel }: Host, on: boolean): Ref<'Iotlb'> {
  const iotlb = Iotlb.create(kernel);
  Iotlb.on.poke(kernel, iotlb, on ? 1 : 0);
  return iotlb;
}

function createCache({ kernel }: Host, on: boolean): Ref<'TaggedCache'> {
  const cache = TaggedCache.create(kernel);
  TaggedCache.on.poke(kernel, cache, on ? 1 : 0);
  return cache;
}

function createCaches(host: Host, unit: Ref<'IommuUnit'>, options: VtdUnitOptions): void {
  const { kernel } = host;
  const isOn = (one: boolean | undefined): boolean => one ?? options.caches !== 'off';
  IommuUnit.iotlb.poke(kernel, unit, createIotlb(host, isOn(options.iotlb)));
  IommuUnit.contextCache.poke(kernel, unit, createCache(host, isOn(options.contextCache)));
  IommuUnit.walkCache.poke(kernel, unit, createCache(host, isOn(options.walkCache)));
  const extendedHigh = VtdRegisters.extendedCapability.peekHigh(kernel, IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>);
  // A unit without scalable mode has no use for one.
  if (registers.supportsScalable(extendedHigh)) IommuUnit.pasidCache.poke(kernel, unit, createCache(host, isOn(options.pasidCache)));
}

/** A unit at the end of the machine's list. */
function link(host: Host, kind: UnitKind): Ref<'IommuUnit'> {
  const { kernel, machine } = host;
  const unit = IommuUnit.create(kernel);
  const number = MachineRecord.units.peek(kernel, machine);
  IommuUnit.number.poke(kernel, unit, number);
  IommuUnit.kind.poke(kernel, unit, kind);
  MachineRecord.units.poke(kernel, machine, number + 1);
  const last = unitsOf(host).at(-1);
  if (last === undefined) MachineRecord.firstUnit.poke(kernel, machine, unit);
  else IommuUnit.next.poke(kernel, last, unit);
  return unit;
}

/** What the trusted side of a machine's units shares; `NULL` on a machine without, and without a machine. */
export function trustedRootOf(host: Host): Ref<'TrustedRoot'> {
  const first = host.machine === NULL ? NULL : MachineRecord.firstUnit.peek(host.kernel, host.machine);
  return first === NULL ? NULL : IommuUnit.trustedRoot.peek(host.kernel, first);
}

function unitsOf({ kernel, machine }: Host): Ref<'IommuUnit'>[] {
  const found: Ref<'IommuUnit'>[] = [];
  for (let at = MachineRecord.firstUnit.peek(kernel, machine); at !== NULL; at = IommuUnit.next.peek(kernel, at)) found.push(at);
  return found;
}
