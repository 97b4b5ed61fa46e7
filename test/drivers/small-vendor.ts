/** One host with one unit of AMD's or Arm's, or of RISC-V, booted, and functions behind it. */
import { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { AmdDriver } from '#src/drivers/amd/driver';
import type { IommuDriver } from '#src/drivers/driver';
import { SmmuDriver, type SmmuBootOptions } from '#src/drivers/smmuv3/driver';
import { RiscvDriver } from '#src/drivers/riscv/driver';
import { Machine, type PciFunctionOptions } from '#src/hardware/machine';
import type { RiscvUnitOptions } from '#src/hardware/riscv/registers';
import { takeFaults } from '#src/hardware/riscv/fault-queue';
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

/** One host with one RISC-V unit, likewise. */
export function smallRiscv(functions: readonly PciFunctionOptions[] = [{ rid: 0x108 }, { rid: 0x110 }], options: RiscvUnitOptions = {}) {
  const host = Host.create(4 << 20, 2 << 20);
  Machine.create(host);
  const unit = Machine.addRiscvUnit(host, options);
  const added = functions.map((each) => Machine.addFunction(host, unit, each));
  const machine = new Machine(host);
  RiscvDriver.boot(host, machine);
  const driver = new RiscvDriver(host, machine);
  for (const each of added) driver.probe(each);
  const registers = IommuUnit.registers.peek(host.kernel, unit) as Ref<'RiscvRegisters'>;
  const engines = added.map((each) => machine.dma(each));
  const queue = machine.riscvUnits[0]!.queue;
  return { host, machine, driver, functions: added, engines, registers, queue, faults: () => takeFaults(host, registers) };
}
