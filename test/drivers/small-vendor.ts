/** One host with one unit of AMD's or Arm's, booted, and functions behind it. */
import { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { AmdDriver } from '#src/drivers/amd/driver';
import type { IommuDriver } from '#src/drivers/driver';
import { SmmuDriver, type SmmuBootOptions } from '#src/drivers/smmuv3/driver';
import { Machine, type PciFunctionOptions } from '#src/hardware/machine';
import { IommuUnit, type EntryUnitOptions } from '#src/hardware/unit';

export interface SmallVendorOptions extends EntryUnitOptions, SmmuBootOptions {
  readonly functions?: readonly PciFunctionOptions[];
}

export function smallVendor(vendor: 'amd' | 'smmuv3', { functions = [{ rid: 0x108 }, { rid: 0x110 }], ...options }: SmallVendorOptions = {}) {
  const host = Host.create(4 << 20, 2 << 20);
  Machine.create(host);
  const unit = vendor === 'amd' ? Machine.addAmdUnit(host, options) : Machine.addSmmuUnit(host, options);
  const added = functions.map((each) => Machine.addFunction(host, unit, each));
  const machine = new Machine(host);
  if (vendor === 'amd') AmdDriver.boot(host, machine);
  else SmmuDriver.boot(host, machine, options);
  const driver: IommuDriver = vendor === 'amd' ? new AmdDriver(host, machine) : new SmmuDriver(host, machine);
  for (const each of added) driver.probe(each);
  const engines = added.map((each) => machine.dma(each));
  const { queue } = (vendor === 'amd' ? machine.amdUnits : machine.smmuUnits)[0]!;
  const registers = IommuUnit.registers.peek(host.kernel, unit);
  return {
    host, machine, driver, functions: added, engines, queue,
    amd: registers as Ref<'AmdRegisters'>,
    smmu: registers as Ref<'SmmuRegisters'>,
  };
}
