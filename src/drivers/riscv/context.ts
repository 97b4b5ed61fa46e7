/**
 * Device contexts, written in the kernel's order (`riscv_iommu_iodir_update`): V cleared, the unit told and drained; then the fields, V
 * last, and the unit told again. A replace is break before make: in between every request of the device faults.
 */
import { peek, poke, write64 } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { hpaOf, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import * as device from '../../hardware/riscv/device-context.ts';
import { Field, Tc } from '../../hardware/riscv/device-context.ts';
import { EntryFound, EntryWritten } from '../events.ts';
import type { Riscv, RiscvMember } from './riscv.ts';
import { RiscvUnitState } from './unit-state.ts';

/** A directory of two levels, whose contexts have the base format: 16 bits of device id. */
const leafBits = device.leafBits(false);
const valid = 1;

/** What a device's context says: its tc; a `root` of 0 with mode 0 lets requests pass. */
export interface Context {
  readonly control: number;
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

/** Takes the contexts of a device and of its alias away; on return nothing uses what they said. False where there were none. */
export function clearContexts(riscv: Riscv, unit: RiscvMember, pciFunction: Ref<'PciFunction'>): boolean {
  const { kernel } = riscv;
  let found = false;
  RiscvUnitState.contextLock.acquire(kernel, unit.state);
  for (const deviceId of deviceIds(kernel, pciFunction)) if (clearContext(riscv, unit, deviceId)) found = true;
  RiscvUnitState.contextLock.release(kernel, unit.state);
  return found;
}

function clearContext(riscv: Riscv, unit: RiscvMember, deviceId: number): boolean {
  const { kernel, ram } = riscv;
  const at = contextAt(kernel, ram, unit, deviceId);
  const before = peek(ram, at);
  if ((before & Tc.VALID) === 0) return false;
  EntryFound.emit(kernel, TableKind.DEVICE_CONTEXT, deviceId, 0, before, peek(ram, at + Field.TA * 4), peek(ram, at + Field.FSC * 4));
  EntryWritten.emit(kernel, TableKind.DEVICE_CONTEXT, deviceId, 0);
  write64(ram, at, 0, 0, device.contextLabels[0]!);
  riscv.operations.forgetDevice(riscv, unit, deviceId);
  return true;
}

/** Puts contexts where there are none; on return the unit goes by them. */
export function writeContexts(riscv: Riscv, unit: RiscvMember, pciFunction: Ref<'PciFunction'>, { control, pscid, mode, root }: Context): void {
  const { kernel, ram } = riscv;
  RiscvUnitState.contextLock.acquire(kernel, unit.state);
  for (const deviceId of deviceIds(kernel, pciFunction)) {
    const at = contextAt(kernel, ram, unit, deviceId);
    EntryWritten.emit(kernel, TableKind.DEVICE_CONTEXT, deviceId, 0, control, pscid << 12, root);
    write64(ram, at + Field.FSC * 4, mode << 28, root, device.contextLabels[3]!);
    write64(ram, at + Field.TA * 4, 0, pscid << 12, device.contextLabels[2]!);
    write64(ram, at, 0, control, device.contextLabels[0]!);
    riscv.operations.forgetDevice(riscv, unit, deviceId);
  }
  RiscvUnitState.contextLock.release(kernel, unit.state);
}

/** That of a function, and that of its alias. */
function deviceIds(kernel: Memory, pciFunction: Ref<'PciFunction'>): readonly number[] {
  const rid = PciFunction.rid.peek(kernel, pciFunction);
  const sourceId = PciFunction.sourceId.peek(kernel, pciFunction);
  return sourceId === rid ? [rid] : [rid, sourceId];
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
