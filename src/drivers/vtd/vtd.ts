/**
 * What the functions of the VT-d driver work with: one thread's views of the host, the units, and the table of operations.
 */
import type { Host } from '#hostmem/host';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import type { Frames } from '#hostmem/frames';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import type { Machine } from '../../hardware/machine.ts';
import { IommuUnit, UnitKind } from '../../hardware/unit.ts';
import type { InvalidationQueue } from '../../hardware/vtd/invalidation-queue.ts';
import { domainIdsOf, largestOrderOf, VtdRegisters } from '../../hardware/vtd/registers.ts';
import { assert } from '../../kernel/errno.ts';
import { Batch } from './batch.ts';
import type { VtdOperations } from './operations.ts';
import { QueueFaultHandler } from './queue-fault-handler.ts';

/** A unit as the driver sees it. */
export class VtdUnit {
  readonly ref: Ref<'IommuUnit'>;
  readonly registers: Ref<'VtdRegisters'>;
  readonly state: Ref<'VtdUnitState'>;
  /** Helped along in a free run; its state is read by nobody here. */
  readonly queue: InvalidationQueue;
  readonly faultHandler: QueueFaultHandler;
  readonly capabilityLow: number;
  readonly domainIds: number;
  readonly largestOrder: number;

  constructor(host: Host, unit: Ref<'IommuUnit'>, queue: InvalidationQueue) {
    const kernel = host.kernel;
    this.ref = unit;
    this.registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
    this.state = IommuUnit.driverData.peek(kernel, unit) as Ref<'VtdUnitState'>;
    this.queue = queue;
    this.faultHandler = new QueueFaultHandler(host, this);
    this.capabilityLow = VtdRegisters.capability.peek(kernel, this.registers);
    this.domainIds = domainIdsOf(this.capabilityLow);
    this.largestOrder = largestOrderOf(VtdRegisters.capability.peekHigh(kernel, this.registers));
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
  /** Page tables by number of levels. */
  readonly #tables: readonly (PageTable | null)[];
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
    const table = (levels: 3 | 4 | 5): PageTable => new PageTable(host.ram, host.frames, vtdSecondStage(levels));
    this.#tables = [null, null, null, table(3), table(4), table(5)];
  }

  unit(unit: Ref<'IommuUnit'>): VtdUnit {
    const found = this.#byNumber[IommuUnit.number.peek(this.kernel, unit)];
    assert(found !== null && found !== undefined, 'the unit is one of VT-d');
    return found;
  }

  /** Page tables of 3, 4 or 5 levels. */
  tables(levels: number): PageTable {
    const table = this.#tables[levels];
    assert(table !== null && table !== undefined, `a VT-d domain has 3, 4 or 5 levels, not ${levels}`);
    return table;
  }
}
