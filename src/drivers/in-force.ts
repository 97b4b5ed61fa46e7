/** The driver of a host, as one thread joins it. */
import type { Host } from '#hostmem/host';
import type { Machine } from '../hardware/machine.ts';
import { AmdDriver } from './amd/driver.ts';
import { amdOperations, type AmdOperations } from './amd/operations.ts';
import type { IommuDriver } from './driver.ts';
import { MixedDrivers } from './mixed.ts';
import { MockDriver } from './mock/driver.ts';
import { RiscvDriver } from './riscv/driver.ts';
import { riscvOperations, type RiscvOperations } from './riscv/operations.ts';
import { SmmuDriver } from './smmuv3/driver.ts';
import { smmuOperations, type SmmuOperations } from './smmuv3/operations.ts';
import { smmuFaults, type SmmuFaults } from './smmuv3/smmu.ts';
import { VtdDriver } from './vtd/driver.ts';
import { vtdOperations, type VtdOperations } from './vtd/operations.ts';

/** The tables of functions that variants change, by vendor. */
export interface VendorOperations {
  readonly vtd: VtdOperations;
  readonly amd: AmdOperations;
  readonly smmuv3: SmmuOperations;
  readonly riscv: RiscvOperations;
  readonly faults: SmmuFaults;
}

const unchanged: VendorOperations = { vtd: vtdOperations, amd: amdOperations, smmuv3: smmuOperations, riscv: riscvOperations, faults: smmuFaults };

/** That of the machine's units, whoever made them; the mock driver where `MockDriver.boot` has set it up, beside that of VT-d units where there are any. */
export function driverInForce(host: Host, machine: Machine, operations: VendorOperations = unchanged): IommuDriver {
  if (machine.riscvUnits.length > 0) return new RiscvDriver(host, machine, operations.riscv);
  if (machine.amdUnits.length > 0) return new AmdDriver(host, machine, operations.amd);
  if (machine.smmuUnits.length > 0) return new SmmuDriver(host, machine, operations.smmuv3, operations.faults);
  if (host.driver === 0) return new VtdDriver(host, machine, operations.vtd);
  const mock = new MockDriver(host);
  return machine.units.length === 0 ? mock : new MixedDrivers(host.kernel, new VtdDriver(host, machine, operations.vtd), mock);
}
