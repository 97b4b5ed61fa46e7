/** What the functions of the AMD driver work with: one thread's views of the host, the units, and the table of operations. */
import { amdV1 } from '#hostmem/formats/amd-v1';
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { hpaOf, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import { AmdRegisters } from '../../hardware/amd/registers.ts';
import { UnitCommandRing, type CommandEngine } from '../../hardware/command-engine.ts';
import type { Machine } from '../../hardware/machine.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { assert } from '../../kernel/errno.ts';
import { Gather } from '../gather.ts';
import type { AmdOperations } from './operations.ts';
import { AmdUnitState } from './unit-state.ts';

/** A unit as the driver sees it. */
export class AmdMember {
  readonly ref: Ref<'IommuUnit'>;
  readonly number: number;
  readonly registers: Ref<'AmdRegisters'>;
  readonly state: Ref<'AmdUnitState'>;
  /** Helped along in a free run; its state is read by nobody here. */
  readonly queue: CommandEngine;
  readonly deviceTable: Frame;
  /** Byte addresses in RAM of the commands and of the semaphore; in kernel memory, of head, tail and lock. */
  readonly ringAt: number;
  readonly semaphoreAt: number;
  readonly headAt: number;
  readonly tailAt: number;
  readonly lockAt: number;

  constructor({ kernel }: Host, unit: Ref<'IommuUnit'>, queue: CommandEngine) {
    this.ref = unit;
    this.number = IommuUnit.number.peek(kernel, unit);
    this.registers = IommuUnit.registers.peek(kernel, unit) as Ref<'AmdRegisters'>;
    this.state = IommuUnit.driverData.peek(kernel, unit) as Ref<'AmdUnitState'>;
    this.queue = queue;
    this.deviceTable = AmdRegisters.deviceTable.peek(kernel, this.registers) as Frame;
    const ring = AmdRegisters.commands.peek(kernel, this.registers);
    this.ringAt = hpaOf(UnitCommandRing.frame.peek(kernel, ring) as Frame);
    this.semaphoreAt = hpaOf(AmdUnitState.semaphore.peek(kernel, this.state) as Frame);
    this.headAt = UnitCommandRing.head.address(kernel, ring);
    this.tailAt = UnitCommandRing.tail.address(kernel, ring);
    this.lockAt = AmdUnitState.ringLock.address(kernel, this.state);
  }
}

export class Amd {
  readonly kernel: Memory;
  readonly ram: Memory;
  readonly frames: Frames;
  readonly operations: AmdOperations;
  readonly units: readonly AmdMember[];
  readonly gather = new Gather();
  /** By number of levels. */
  readonly #tables: readonly (PageTable | null)[];

  constructor(host: Host, machine: Machine, operations: AmdOperations) {
    this.kernel = host.kernel;
    this.ram = host.ram;
    this.frames = host.frames;
    this.operations = operations;
    this.units = machine.amdUnits.map(({ ref, queue }) => new AmdMember(host, ref, queue));
    this.#tables = [null, null, null, ...([3, 4, 5, 6] as const).map((levels) => new PageTable(host.ram, host.frames, amdV1(levels)))];
  }

  unit(unit: Ref<'IommuUnit'>): AmdMember {
    const found = this.units.find(({ ref }) => ref === unit);
    assert(found !== undefined, 'the unit is one of AMD');
    return found;
  }

  /** Page tables of so many levels. */
  tables(levels: number): PageTable {
    const found = this.#tables[levels];
    assert(found !== null && found !== undefined, `host tables have 3 to 6 levels, not ${levels}`);
    return found;
  }
}
