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
import { DmaEngine } from './dma-engine.ts';
import { PciFunction } from './function.ts';
import { Iotlb } from './iotlb.ts';
import { TranslationUnit } from './translation-unit.ts';
import { createInterface, createTrustedRoot } from './trusted-unit.ts';
import { IommuUnit, UnitKind } from './unit.ts';
import { InvalidationQueue } from './vtd/invalidation-queue.ts';
import { PasidCache } from './vtd/pasid-cache.ts';
import * as registers from './vtd/registers.ts';
import { VtdRegisters } from './vtd/registers.ts';

const MachineRecord = object('Machine', { firstUnit: ref('IommuUnit'), units: u32, firstFunction: ref('PciFunction') });

export interface VtdUnitOptions {
  /** Whether the defaults of CAP and ECAP are those of the recorded unit in scalable mode, or in legacy mode. */
  readonly scalable?: boolean;
  /** CAP and ECAP; by default those of the recorded unit. */
  readonly capability?: bigint;
  readonly extendedCapability?: bigint;
  /** How many bits of a context or PASID entry the unit fetches at once; 128 by default, 512 is any entry as a whole. */
  readonly fetchBits?: 64 | 128 | 512;
  /** Without an IOTLB every request walks, without a PASID cache it reads the PASID entry. */
  readonly iotlb?: boolean;
  readonly pasidCache?: boolean;
  /** Whose numbers the unit gives as fault reasons in scalable mode: by default the specification's. */
  readonly faultReasons?: 'specification' | 'recorded';
}

export interface PciFunctionOptions {
  /** `bus << 8 | device << 3 | function`. */
  readonly rid: number;
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

export class Machine {
  readonly units: readonly Unit[];
  readonly #host: Host;

  /** Joins the machine of a host that `create` made. Units added later are not seen. */
  constructor(host: Host) {
    this.#host = host;
    this.units = unitsOf(host).map((unit) => new Unit(host, unit));
  }

  /** An empty machine, kept as the host's. */
  static create(host: Host): void {
    host.machine = MachineRecord.create(host.kernel);
  }

  /** Adds a VT-d unit as it is after reset: it translates nothing until software sets it up. */
  static addUnit(host: Host, options: VtdUnitOptions = {}): Ref<'IommuUnit'> {
    const { kernel, machine } = host;
    const unit = IommuUnit.create(kernel);
    const number = MachineRecord.units.peek(kernel, machine);
    IommuUnit.number.poke(kernel, unit, number);
    IommuUnit.kind.poke(kernel, unit, UnitKind.VTD);
    IommuUnit.registers.poke(kernel, unit, createRegisters(host, options));
    const iotlb = Iotlb.create(kernel);
    Iotlb.on.poke(kernel, iotlb, (options.iotlb ?? true) ? 1 : 0);
    IommuUnit.iotlb.poke(kernel, unit, iotlb);
    IommuUnit.pasidCache.poke(kernel, unit, createPasidCache(host, unit, options));
    MachineRecord.units.poke(kernel, machine, number + 1);
    const last = unitsOf(host).at(-1);
    if (last === undefined) MachineRecord.firstUnit.poke(kernel, machine, unit);
    else IommuUnit.next.poke(kernel, last, unit);
    return unit;
  }

  /** Adds a function behind a unit. */
  static addFunction(host: Host, unit: Ref<'IommuUnit'>, options: PciFunctionOptions): Ref<'PciFunction'> {
    const { kernel, machine } = host;
    const added = PciFunction.create(kernel);
    PciFunction.rid.poke(kernel, added, options.rid);
    PciFunction.sourceId.poke(kernel, added, options.sourceId ?? options.rid);
    PciFunction.unit.poke(kernel, added, unit);
    PciFunction.nextOfMachine.poke(kernel, added, MachineRecord.firstFunction.peek(kernel, machine));
    PciFunction.nextOfUnit.poke(kernel, added, IommuUnit.firstFunction.peek(kernel, unit));
    MachineRecord.firstFunction.poke(kernel, machine, added);
    IommuUnit.firstFunction.poke(kernel, unit, added);
    createInterface(kernel, added);
    return added;
  }

  /** Gives the machine's units a trusted side; functions that are added from now on have device interfaces. */
  static addTrustedSide(host: Host, { checksHits }: { readonly checksHits: boolean }): void {
    createTrustedRoot(host.kernel, unitsOf(host), checksHits);
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
    return new DmaEngine(this.#host, this.unitOf(pciFunction).translation, pciFunction);
  }

  /** The parts that act by themselves. */
  engines(): readonly Engine[] {
    return this.units.map((unit) => unit.queue);
  }
}

function createRegisters({ kernel }: Host, options: VtdUnitOptions): Ref<'VtdRegisters'> {
  const created = VtdRegisters.create(kernel);
  const scalable = options.scalable ?? false;
  const capability = options.capability ?? (scalable ? registers.recordedScalableCapability : registers.recordedCapability);
  const extended = options.extendedCapability ?? (scalable ? registers.recordedScalableExtendedCapability : registers.recordedExtendedCapability);
  VtdRegisters.capability.pokeBig(kernel, created, capability);
  VtdRegisters.extendedCapability.pokeBig(kernel, created, extended);
  VtdRegisters.fetchBits.poke(kernel, created, options.fetchBits ?? 128);
  VtdRegisters.recordedReasons.poke(kernel, created, options.faultReasons === 'recorded' ? 1 : 0);
  const records = registers.faultRecordsOf(VtdRegisters.capability.peekHigh(kernel, created));
  if (records > registers.mostFaultRecords) throw new Error(`a unit with ${records} fault records; ${registers.mostFaultRecords} is the most`);
  return created;
}

/** A unit without scalable mode has no use for one. */
function createPasidCache({ kernel }: Host, unit: Ref<'IommuUnit'>, options: VtdUnitOptions): Ref<'PasidCache'> {
  const extendedHigh = VtdRegisters.extendedCapability.peekHigh(kernel, IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>);
  if (!registers.supportsScalable(extendedHigh)) return NULL;
  const cache = PasidCache.create(kernel);
  PasidCache.on.poke(kernel, cache, (options.pasidCache ?? true) ? 1 : 0);
  return cache;
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
