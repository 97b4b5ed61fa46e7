/** The driver of a host, as one thread joins it. */
import type { Host } from '#hostmem/host';
import type { Machine } from '../hardware/machine.ts';
import type { IommuDriver } from './driver.ts';
import { MixedDrivers } from './mixed.ts';
import { MockDriver } from './mock/driver.ts';
import { RiscvDriver } from './riscv/driver.ts';
import { VtdDriver } from './vtd/driver.ts';
import { vtdOperations, type VtdOperations } from './vtd/operations.ts';

/** That of the machine's RISC-V units where there are any; the mock driver where `MockDriver.boot` has set it up, that of the machine's VT-d units where there are any; or both. */
export function driverInForce(host: Host, machine: Machine, operations: VtdOperations = vtdOperations): IommuDriver {
  if (machine.riscvUnits.length > 0) return new RiscvDriver(host, machine);
  if (host.driver === 0) return new VtdDriver(host, machine, operations);
  const mock = new MockDriver(host);
  return machine.units.length === 0 ? mock : new MixedDrivers(host.kernel, new VtdDriver(host, machine, operations), mock);
}
