/** The driver of a machine's units: which one is decided by whose registers they have. */
import type { Host } from '#hostmem/host';
import type { Machine } from '../hardware/machine.ts';
import type { IommuDriver } from './driver.ts';
import { RiscvDriver } from './riscv/driver.ts';
import { VtdDriver } from './vtd/driver.ts';

/** Joins units that were set up with the world. */
export const joinDriver = (host: Host, machine: Machine): IommuDriver => (machine.riscvUnits.length > 0 ? new RiscvDriver(host, machine) : new VtdDriver(host, machine));
