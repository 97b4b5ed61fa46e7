/** The driver of a host, as one thread joins it. */
import type { Host } from '#hostmem/host';
import type { Machine } from '../hardware/machine.ts';
import type { IommuDriver } from './driver.ts';
import { MockDriver } from './mock/driver.ts';
import { VtdDriver } from './vtd/driver.ts';

/** The mock driver where `MockDriver.boot` has set it up, else that of the machine's VT-d units. */
export function driverInForce(host: Host, machine: Machine): IommuDriver {
  return host.driver === 0 ? new VtdDriver(host, machine) : new MockDriver(host);
}
