/**
 * What the functions of the VT-d driver work with: one thread's views of the host, the units, and the table of operations.
 */
import type { Host } from '#hostmem/host';
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import type { Frames } from '#hostmem/frames';
import { hpaOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import type { PageTableFormat } from '#hostmem/page-table-format';
import type { Machine } from '../../hardware/machine.ts';
import { IommuUnit, UnitKind } from '../../hardware/unit.ts';
import type { InvalidationQueue } from '../../hardware/vtd/invalidation-queue.ts';
import { descriptorBytes, wideDescriptorBytes } from '../../hardware/vtd/descriptors.ts';
import { domainIdsOf, largestOrderOf, RootTableMode, rootTableModeOf, VtdRegisters, wideDescriptors } from '../../hardware/vtd/registers.ts';
import { assert } from '../../kernel/errno.ts';
import { IommuDomain } from '../domain.ts';
import { formatId } from '../driver.ts';
import { Batch } from './batch.ts';
import { Gather } from '../gather.ts';
import type { VtdOperations } from './operations.ts';
import { QueueFaultHandler } from './queue-fault-handler.ts';
import { VtdUnitState } from './unit-state.ts';

const fourLevels = formatId(vtdFirstStage(4));
const fiveLevels = formatId(vtdFirstStage(5));

/** A unit as the driver sees it. */
export class VtdUnit {
  readonly ref: Ref<'IommuUnit'>;
  readonly number: number;
  readonly registers: Ref<'VtdRegisters'>;
  readonly state: Ref<'VtdUnitState'>;
  /** Helped along in a free run; its state is read by nobody here. */
  readonly queue: InvalidationQueue;
  readonly faultHandler: QueueFaultHandler;
  readonly capabilityLow: number;
  readonly capabilityHigh: number;
  readonly extendedLow: number;
  readonly extendedHigh: number;
  /** Whether `boot` put it in scalable mode. */
  readonly scalable: boolean;
  /** Size of a descriptor, and how many are in the ring. */
  readonly descriptorBytes: number;
  readonly ringLength: number;
  readonly domainIds: number;
  readonly largestOrder: number;
  /** Byte addresses in RAM of the queue's ring and of its status words; in kernel memory, of the tail register and the queue's lock. */
  readonly ringAt: number;
  readonly statusAt: number;
  readonly tailAt: number;
  readonly lockAt: number;

  constructor(host: Host, unit: Ref<'IommuUnit'>, queue: InvalidationQueue) {
    const kernel = host.kernel;
    this.ref = unit;
    this.number = IommuUnit.number.peek(kernel, unit);
    this.registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
    this.state = IommuUnit.driverData.peek(kernel, unit) as Ref<'VtdUnitState'>;
    this.ringAt = hpaOf(VtdUnitState.queue.peek(kernel, this.state) as Frame);
    this.statusAt = hpaOf(VtdUnitState.queueStatus.peek(kernel, this.state) as Frame);
    this.tailAt = VtdRegisters.queueTail.address(kernel, this.registers);
    this.lockAt = VtdUnitState.queueLock.address(kernel, this.state);
    this.queue = queue;
    this.faultHandler = new QueueFaultHandler(host, this);
    this.capabilityLow = VtdRegisters.capability.peek(kernel, this.registers);
    this.capabilityHigh = VtdRegisters.capability.peekHigh(kernel, this.registers);
    this.extendedLow = VtdRegisters.extendedCapability.peek(kernel, this.registers);
    this.extendedHigh = VtdRegisters.extendedCapability.peekHigh(kernel, this.registers);
    this.scalable = rootTableModeOf(VtdRegisters.rootTable.peek(kernel, this.registers)) === RootTableMode.SCALABLE;
    const isWide = (VtdRegisters.queueAddress.peek(kernel, this.registers) & wideDescriptors) !== 0;
    this.descriptorBytes = isWide ? wideDescriptorBytes : descriptorBytes;
    this.ringLength = pageBytes / this.descriptorBytes;
    this.domainIds = domainIdsOf(this.capabilityLow);
    this.largestOrder = largestOrderOf(this.capabilityHigh);
  }
}

export class Vtd {
  readonly host: Host;
  readonly kernel: Memory;
  readonly ram: Memory;
  readonly frames: Frames;
  readonly operations: VtdOperations;
  readonly units: readonly VtdUnit[];
  readonly batch = new Batch();
  readonly gather = new Gather();
  /** Page tables by number of levels, of the second stage and of the first. */
  readonly #second: readonly (PageTable | null)[];
  readonly #first: readonly (PageTable | null)[];
  readonly #byNumber: readonly (VtdUnit | null)[];

  constructor(host: Host, machine: Machine, operations: VtdOperations) {
    this.host = host;
    this.kernel = host.kernel;
    this.ram = host.ram;
    this.frames = host.frames;
    this.operations = operations;
    const kernel = host.kernel;
    this.#byNumber = machine.units.map((unit) => (IommuUnit.kind.peek(kernel, unit.ref) === UnitKind.VTD ? new VtdUnit(host, unit.ref, unit.queue) : null));
    this.units = this.#byNumber.filter((unit) => unit !== null);
    const table = (format: PageTableFormat): PageTable => new PageTable(host.ram, host.frames, format);
    this.#second = [null, null, null, table(vtdSecondStage(3)), table(vtdSecondStage(4)), table(vtdSecondStage(5))];
    this.#first = [null, null, null, null, table(vtdFirstStage(4)), table(vtdFirstStage(5))];
  }

  unit(unit: Ref<'IommuUnit'>): VtdUnit {
    const found = this.#byNumber[IommuUnit.number.peek(this.kernel, unit)];
    assert(found !== null && found !== undefined, 'the unit is one of VT-d');
    return found;
  }

  /** Page tables of a domain. */
  tables(domain: Ref<'IommuDomain'>): PageTable {
    const levels = IommuDomain.levels.peek(this.kernel, domain);
    const table = (this.isFirstStage(domain) ? this.#first : this.#second)[levels];
    assert(table !== null && table !== undefined, `a VT-d domain has 3, 4 or 5 levels, not ${levels}`);
    return table;
  }

  isFirstStage(domain: Ref<'IommuDomain'>): boolean {
    const format = IommuDomain.format.peek(this.kernel, domain);
    return format === fourLevels || format === fiveLevels;
  }
}
