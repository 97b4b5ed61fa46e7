/** The RISC-V driver as one thread sees it: its units, and the page tables of its domains. */
import { riscv as riscvFormat } from '#hostmem/formats/riscv';
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import type { Machine } from '../../hardware/machine.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { assert } from '../../kernel/errno.ts';
import { Gather } from '../gather.ts';
import type { RiscvOperations } from './operations.ts';
import { RiscvSubmitter } from './queue.ts';

/** A unit as the driver sees it. */
export interface RiscvMember {
  readonly ref: Ref<'IommuUnit'>;
  readonly state: Ref<'RiscvUnitState'>;
  readonly submitter: RiscvSubmitter;
}

/** First-stage tables of four levels: every unit here has Sv48. */
const domainLevels = 4;
export const domainFormat = riscvFormat({ levels: domainLevels });

export class Riscv {
  readonly kernel: Memory;
  readonly ram: Memory;
  readonly frames: Frames;
  readonly tables: PageTable;
  readonly units: readonly RiscvMember[];
  readonly gather = new Gather();
  readonly operations: RiscvOperations;

  constructor(host: Host, machine: Machine, operations: RiscvOperations) {
    const kernel = host.kernel;
    this.operations = operations;
    this.kernel = kernel;
    this.ram = host.ram;
    this.frames = host.frames;
    this.tables = new PageTable(host.ram, host.frames, domainFormat);
    this.units = machine.riscvUnits.map(({ ref, queue }) => ({
      ref,
      state: IommuUnit.driverData.peek(kernel, ref) as Ref<'RiscvUnitState'>,
      submitter: new RiscvSubmitter(host, ref, queue, this),
    }));
  }

  unit(unit: Ref<'IommuUnit'>): RiscvMember {
    const found = this.units.find(({ ref }) => ref === unit);
    assert(found !== undefined, 'the unit is one of RISC-V');
    return found;
  }
}
