/** What the functions of the SMMUv3 driver work with: one thread's views of the host, the units, and the table of operations. */
import { smmuStage1 } from '#hostmem/formats/smmu-stage-1';
import { smmuStage2 } from '#hostmem/formats/smmu-stage-2';
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import type { Frame, Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import { UnitCommandRing, ringLength, type CommandEngine } from '../../hardware/command-engine.ts';
import type { Machine } from '../../hardware/machine.ts';
import * as commands from '../../hardware/smmuv3/commands.ts';
import { SmmuRegisters } from '../../hardware/smmuv3/registers.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { assert } from '../../kernel/errno.ts';
import { CommandSubmitter, type CommandWords } from '../command-submitter.ts';
import { IommuDomain } from '../domain.ts';
import { formatId } from '../driver.ts';
import { Gather } from '../gather.ts';
import { Invalidations } from './invalidation.ts';
import type { SmmuOperations } from './operations.ts';
import { SmmuUnitState } from './unit-state.ts';

/** Tables of both stages have four levels: every unit here has 48 bits. */
export const firstStage = smmuStage1(4);
export const secondStage = smmuStage2(4);

/** A unit's queue as one thread submits to it: each batch ends in a SYNC that sends a message. */
class SmmuSubmitter extends CommandSubmitter {
  readonly #engine: CommandEngine;

  constructor(host: Host, unit: Ref<'IommuUnit'>, engine: CommandEngine) {
    const { kernel } = host;
    const state = IommuUnit.driverData.peek(kernel, unit) as Ref<'SmmuUnitState'>;
    const ring = SmmuRegisters.commands.peek(kernel, IommuUnit.registers.peek(kernel, unit) as Ref<'SmmuRegisters'>);
    super(host, {
      unit: IommuUnit.number.peek(kernel, unit),
      commands: UnitCommandRing.frame.peek(kernel, ring) as Frame,
      status: SmmuUnitState.queueStatus.peek(kernel, state) as Frame,
      headAt: UnitCommandRing.head.address(kernel, ring),
      tailAt: UnitCommandRing.tail.address(kernel, ring),
      lockAt: SmmuUnitState.queueLock.address(kernel, state),
      tailLabel: UnitCommandRing.tail.label,
      length: ringLength,
    });
    this.#engine = engine;
  }

  protected waitCommand(at: number, data: number): CommandWords {
    return commands.sync(at, data);
  }

  protected help(): void {
    this.#engine.help();
  }
}

/** Which faults of Linux 7.2 the driver has (`kernel/faults-of-72.ts`). */
export interface SmmuFaults {
  readonly smmuPartialBatch: boolean;
}

/** As 7.2 is: where no variant says otherwise. */
export const smmuFaults: SmmuFaults = { smmuPartialBatch: true };

/** A unit as the driver sees it. */
export interface SmmuMember {
  readonly ref: Ref<'IommuUnit'>;
  readonly registers: Ref<'SmmuRegisters'>;
  readonly state: Ref<'SmmuUnitState'>;
  readonly submitter: CommandSubmitter;
}

export class Smmu {
  readonly kernel: Memory;
  readonly ram: Memory;
  readonly frames: Frames;
  readonly operations: SmmuOperations;
  readonly faults: SmmuFaults;
  readonly units: readonly SmmuMember[];
  readonly gather = new Gather();
  /** What the last unmap was told to flush, see `invalidation.ts`. */
  readonly invalidations = new Invalidations();
  readonly first: PageTable;
  readonly second: PageTable;

  constructor(host: Host, machine: Machine, operations: SmmuOperations, faults: SmmuFaults) {
    const kernel = host.kernel;
    this.kernel = kernel;
    this.ram = host.ram;
    this.frames = host.frames;
    this.operations = operations;
    this.faults = faults;
    this.first = new PageTable(host.ram, host.frames, firstStage);
    this.second = new PageTable(host.ram, host.frames, secondStage);
    this.units = machine.smmuUnits.map(({ ref, queue }) => ({
      ref,
      registers: IommuUnit.registers.peek(kernel, ref) as Ref<'SmmuRegisters'>,
      state: IommuUnit.driverData.peek(kernel, ref) as Ref<'SmmuUnitState'>,
      submitter: new SmmuSubmitter(host, ref, queue),
    }));
  }

  unit(unit: Ref<'IommuUnit'>): SmmuMember {
    const found = this.units.find(({ ref }) => ref === unit);
    assert(found !== undefined, 'the unit is an SMMUv3');
    return found;
  }

  isSecondStage(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.format.peek(this.kernel, domain) === formatId(secondStage);
  }

  tables(domain: Ref<'IommuDomain'>): PageTable {
    return this.isSecondStage(domain) ? this.second : this.first;
  }
}
