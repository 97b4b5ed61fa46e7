/**
 * ATS of a device, in the order of E7: its context has allowed ATS since it was attached; the domain's list before the device, the device before the list.
 *
 * Forward-looking: Linux 7.2 has no ATS on RISC-V. What is here is what its VT-d driver does, with the commands of RISC-V's specification.
 */
import { NULL, type Ref } from '#hostmem/object';
import { Atc } from '../../hardware/atc.ts';
import { PciFunction } from '../../hardware/function.ts';
import { Tc } from '../../hardware/riscv/device-context.ts';
import { Capability, RiscvRegisters } from '../../hardware/riscv/registers.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { fail } from '../../kernel/errno.ts';
import { IommuDevice } from '../driver.ts';
import { askAgain, type AfterTimeOut } from '../time-out.ts';
import { linkDevice, unlinkDevice } from './bonds.ts';
import type { Riscv } from './riscv.ts';

export function servesDeviceTlbs({ kernel }: Riscv, unit: Ref<'IommuUnit'>): boolean {
  return (RiscvRegisters.capabilities.peek(kernel, IommuUnit.registers.peek(kernel, unit) as Ref<'RiscvRegisters'>) & Capability.ATS) !== 0;
}

/** Whether the unit serves device TLBs and the function has one. */
export const supportsAts = (riscv: Riscv, pciFunction: Ref<'PciFunction'>): boolean =>
  servesDeviceTlbs(riscv, PciFunction.unit.peek(riscv.kernel, pciFunction)) && PciFunction.atc.peek(riscv.kernel, pciFunction) !== NULL;

/** From here on the device keeps translations of what it is attached to. ENOMEM. */
export function enableAts(riscv: Riscv, device: Ref<'IommuDevice'>): void {
  const { kernel } = riscv;
  if (!supportsAts(riscv, IommuDevice.function.peek(kernel, device)) || IommuDevice.atsEnabled.peek(kernel, device) !== 0) return;
  const domain = IommuDevice.domain.peek(kernel, device);
  if (domain !== NULL && !linkDevice(riscv, domain, device)) fail('ENOMEM', 'no memory for a cache tag');
  switchAtsOn(riscv, device);
}

/** Writes the device's control register. */
export function switchAtsOn({ kernel }: Riscv, device: Ref<'IommuDevice'>): void {
  IommuDevice.atsEnabled.poke(kernel, device, 1);
  Atc.enabled.store(kernel, PciFunction.atc.peek(kernel, IommuDevice.function.peek(kernel, device)), 1);
}

/** On return the device holds no translation and asks for none. */
export function disableAts(riscv: Riscv, device: Ref<'IommuDevice'>): void {
  const { kernel } = riscv;
  if (IommuDevice.atsEnabled.peek(kernel, device) === 0) return;
  Atc.enabled.store(kernel, PciFunction.atc.peek(kernel, IommuDevice.function.peek(kernel, device)), 0);
  riscv.operations.forgetKept(riscv, device);
  IommuDevice.atsEnabled.poke(kernel, device, 0);
  const domain = IommuDevice.domain.peek(kernel, device);
  if (domain !== NULL) unlinkDevice(riscv, domain, device);
}

/** Whether unit and function have page requests, which a device without ATS cannot make. */
export const canAskForPages = (riscv: Riscv, pciFunction: Ref<'PciFunction'>): boolean => {
  const { kernel } = riscv;
  const takes = IommuUnit.pageRequests.peek(kernel, PciFunction.unit.peek(kernel, pciFunction)) !== NULL;
  return takes && supportsAts(riscv, pciFunction) && PciFunction.nextGroup.peek(kernel, pciFunction) !== 0;
};

/** tc of a device's context: what the device may do beside asking for its addresses. */
export function controlOf(riscv: Riscv, pciFunction: Ref<'PciFunction'>): number {
  return Tc.VALID | (supportsAts(riscv, pciFunction) ? Tc.EN_ATS : 0) | (canAskForPages(riscv, pciFunction) ? Tc.EN_PRI : 0);
}

/**
 * On return what a device had asked for lies in the queue of page requests, or was refused there: it is ahead of the device's answer to an invalidation, for which
 * the fence waits (Q8; RISC-V has no wait with PD).
 */
export function drainPageRequests(riscv: Riscv, device: Ref<'IommuDevice'>): void {
  const rid = PciFunction.rid.peek(riscv.kernel, IommuDevice.function.peek(riscv.kernel, device));
  riscv.unit(IommuDevice.unit.peek(riscv.kernel, device)).submitter.invalidateDeviceTlb(rid, 0, 0, 52).submit();
}

/** What becomes of a batch whose device did not answer; as of `qi_check_fault`. */
export function afterTimeOut({ kernel }: Riscv, unit: Ref<'IommuUnit'>, rid: number): AfterTimeOut {
  return askAgain(kernel, unit, rid);
}
