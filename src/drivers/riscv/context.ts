/**
 * Device contexts, written in the kernel's order (`riscv_iommu_iodir_update`): V cleared, the unit told and drained; then the fields, V
 * last, and the unit told again. A replace is break before make: in between every request of the device faults.
 *
 * A device that uses ATS forgets what it keeps while its context is not valid, so that it can ask for nothing: what it kept is of the domain that it leaves.
 */
import { peek, poke, write64 } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { hpaOf, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import * as device from '../../hardware/riscv/device-context.ts';
import { Field, Tc } from '../../hardware/riscv/device-context.ts';
import { IommuDevice } from '../driver.ts';
import { EntryFound, EntryWritten } from '../events.ts';
import type { Riscv, RiscvMember } from './riscv.ts';
import { RiscvUnitState } from './unit-state.ts';

/** A directory of two levels, whose contexts have the base format: 16 bits of device id. */
const leafBits = device.leafBits(false);
const valid = 1;

/** What a device's context says: `valid` false blocks it; a `root` of 0 with mode 0 lets requests pass; `ats` lets it use ATS. */
export interface Context {
  readonly valid: boolean;
  readonly ats: boolean;
  readonly pscid: number;
  readonly mode: number;
  readonly root: Frame;
}

/** Makes sure that a device id has a page of contexts. False when RAM is used up. */
export function ensureContextPage({ kernel, ram, frames }: Riscv, unit: RiscvMember, deviceId: number): boolean {
  RiscvUnitState.contextLock.acquire(kernel, unit.state);
  const at = entryAt(kernel, unit, deviceId);
  const missing = (peek(ram, at) & valid) === 0;
  const page = missing ? frames.allocate(Owner.KERNEL) : 0;
  if (page !== 0) poke(ram, at, (page << 10) | valid);
  RiscvUnitState.contextLock.release(kernel, unit.state);
  return !missing || page !== 0;
}

/** Writes the contexts of a device and of its alias; on return nothing uses what they said before. */
export function writeContexts(riscv: Riscv, unit: RiscvMember, device: Ref<'IommuDevice'>, context: Context): void {
  const pciFunction = IommuDevice.function.peek(riscv.kernel, device);
  const rid = PciFunction.rid.peek(riscv.kernel, pciFunction);
  const sourceId = PciFunction.sourceId.peek(riscv.kernel, pciFunction);
  writeContext(riscv, unit, device, rid, context);
  if (sourceId !== rid) writeContext(riscv, unit, device, sourceId, context);
}

function writeContext(riscv: Riscv, unit: RiscvMember, of: Ref<'IommuDevice'>, deviceId: number, context: Context): void {
  const { kernel, ram } = riscv;
  RiscvUnitState.contextLock.acquire(kernel, unit.state);
  const at = contextAt(kernel, ram, unit, deviceId);
  const before = peek(ram, at);
  if ((before & Tc.VALID) !== 0) {
    EntryFound.emit(kernel, TableKind.DEVICE_CONTEXT, deviceId, 0, before, peek(ram, at + Field.TA * 4), peek(ram, at + Field.FSC * 4));
    EntryWritten.emit(kernel, TableKind.DEVICE_CONTEXT, deviceId, 0);
    write64(ram, at, 0, 0, device.contextLabels[0]!);
    riscv.operations.forgetDevice(riscv, unit, deviceId);
    if (IommuDevice.atsEnabled.peek(kernel, of) !== 0) unit.submitter.invalidateDeviceTlb(PciFunction.rid.peek(kernel, IommuDevice.function.peek(kernel, of)), 0, 0, 52).submit();
  }
  if (context.valid) {
    const { pscid, mode, root } = context;
    const tc = Tc.VALID | (context.ats ? Tc.EN_ATS : 0);
    EntryWritten.emit(kernel, TableKind.DEVICE_CONTEXT, deviceId, 0, tc, pscid << 12, root);
    write64(ram, at + Field.FSC * 4, mode << 28, root, device.contextLabels[3]!);
    write64(ram, at + Field.TA * 4, 0, pscid << 12, device.contextLabels[2]!);
    write64(ram, at, 0, tc, device.contextLabels[0]!);
    riscv.operations.forgetDevice(riscv, unit, deviceId);
  }
  RiscvUnitState.contextLock.release(kernel, unit.state);
}

/** On return the unit has read the device's context anew, and nothing of the old one is in flight. */
export function forgetDevice(_riscv: Riscv, unit: RiscvMember, deviceId: number): void {
  unit.submitter.invalidateDevice(deviceId).submit();
}

function entryAt(kernel: Memory, unit: RiscvMember, deviceId: number): number {
  return hpaOf(RiscvUnitState.directory.peek(kernel, unit.state) as Frame) + (deviceId >>> leafBits) * 8;
}

function contextAt(kernel: Memory, ram: Memory, unit: RiscvMember, deviceId: number): number {
  const page = device.entryFrame(0, peek(ram, entryAt(kernel, unit, deviceId)));
  return hpaOf(page) + (deviceId & ((1 << leafBits) - 1)) * device.contextBytes(false);
}
