/**
 * The IOMMU units of a host that is built, and the boot of the driver that is theirs.
 */
import type { Host } from '#hostmem/host';
import { NULL, type Ref } from '#hostmem/object';
import { AmdDriver } from './drivers/amd/driver.ts';
import { MockDriver } from './drivers/mock/driver.ts';
import { RiscvDriver } from './drivers/riscv/driver.ts';
import { SmmuDriver } from './drivers/smmuv3/driver.ts';
import { VtdDriver } from './drivers/vtd/driver.ts';
import { Machine } from './hardware/machine.ts';
import { defaultCapabilities } from './hardware/vtd/registers.ts';

/**
 * Whose unit: VT-d in legacy mode, the recorded emulator in scalable mode, a VT-d unit of scalable mode that has a first stage too, and one that nests it
 * on a second; one of AMD, Arm or RISC-V; or the mock IOMMU of the kernel's selftest.
 */
export type Iommu = keyof typeof defaultCapabilities | 'amd' | 'smmuv3' | 'riscv' | 'mock';
export const iommus = [...(Object.keys(defaultCapabilities) as (keyof typeof defaultCapabilities)[]), 'amd', 'smmuv3', 'riscv', 'mock'] as const satisfies readonly Iommu[];

/** What kind of units a host has. */
export interface UnitOptions {
  /** The unit before its functions. Devices of the selftest have none, also where there are units of VT-d beside them. */
  readonly iommu: Iommu | 'vtd-legacy and mock';
  /** Whether unit and functions have ATS, of VT-d or RISC-V; a function uses it once `enableAts` was called for it. */
  readonly ats: boolean;
  /** Whether unit and functions have PASIDs, 2^15 of them; of VT-d in scalable mode alone. */
  readonly pasids: boolean;
  /** Whether unit and functions have page requests, for which functions need ATS too; of VT-d in scalable mode, or RISC-V. */
  readonly pageRequests: boolean;
  /** How many units of that kind; functions are behind the first unless `behindUnit` says otherwise. */
  readonly units: number;
  /** How many bits of a context or PASID entry the unit fetches at once: 64, 128 (the default), or 512, any entry as a whole. */
  readonly fetchBits: 64 | 128 | 512;
  /** Whether the unit has caches; 'on' by default. */
  readonly caches: 'on' | 'off';
  /** Switch K8: false lets devices behind a bridge translate in scalable mode. */
  readonly aliasPasidTableSkipped: boolean;
}

/** Those of the recordings in legacy mode, with the faults of Linux 7.2. */
export const defaultUnits: UnitOptions = {
  iommu: 'vtd-legacy', ats: false, pasids: false, pageRequests: false, units: 1, fetchBits: 128, caches: 'on', aliasPasidTableSkipped: true,
};

/** Adds the units to an empty machine. Throws when they have not what is asked for. */
export function addUnits(host: Host, options: UnitOptions): Ref<'IommuUnit'>[] {
  const { iommu, pasids, pageRequests } = options;
  const isVtd = iommu in defaultCapabilities;
  if (pasids && !isVtd) throw new Error(`requests with PASIDs are of VT-d alone, not of '${iommu}'`);
  if (pageRequests && !isVtd && iommu !== 'riscv') throw new Error(`page requests are of VT-d and RISC-V alone, not of '${iommu}'`);
  return Array.from({ length: options.units }, () => addUnit(host, options));
}

function addUnit(host: Host, { iommu, ats, pasids, pageRequests, fetchBits, caches }: UnitOptions): Ref<'IommuUnit'> {
  if (iommu === 'riscv') return Machine.addRiscvUnit(host, { ats, pageRequests, fetchBits, caches });
  if (iommu === 'amd') return Machine.addAmdUnit(host, { fetchBits, caches });
  if (iommu === 'smmuv3') return Machine.addSmmuUnit(host, { fetchBits, caches });
  if (iommu === 'mock') return Machine.addMockUnit(host);
  const mode = iommu === 'vtd-legacy and mock' ? 'vtd-legacy' : iommu;
  return Machine.addUnit(host, { mode, ats, pasids, pageRequests, faultReasons: 'recorded', fetchBits, caches });
}

/** Sets up the units of a machine, as the kernel does when it boots. */
export function bootDriver(host: Host, machine: Machine, first: Ref<'IommuUnit'>, { iommu, aliasPasidTableSkipped }: UnitOptions): void {
  if (iommu === 'mock') MockDriver.boot(host, first);
  else if (iommu === 'riscv') RiscvDriver.boot(host, machine);
  else if (iommu === 'amd') AmdDriver.boot(host, machine);
  else if (iommu === 'smmuv3') SmmuDriver.boot(host, machine);
  else VtdDriver.boot(host, machine, { aliasPasidTableSkipped });
  if (iommu === 'vtd-legacy and mock') MockDriver.boot(host, NULL);
}
