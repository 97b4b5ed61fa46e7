/**
 * Entries of the device table as the kernel writes them (`update_dte256`): the half that host translation uses, 128 bits, in one store, and the
 * unit told of it and drained. An attach breaks before it makes: the entry is cleared, the old domain flushed, and the new one written.
 */
import { Op, peek, poke, silent, write64 } from '#hostmem/atomics';
import type { Frame, Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import * as commands from '../../hardware/amd/commands.ts';
import * as entry from '../../hardware/amd/device-table.ts';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import { EntryFound, EntryWritten } from '../events.ts';
import type { Amd, AmdMember } from './amd.ts';
import { AmdUnitState, topLevels, topRoot } from './unit-state.ts';

/** The first half of an entry, as three words. */
export type DeviceEntry = readonly [low: number, high: number, domainId: number];

/** What a detach leaves (`make_clear_dte`): V without TV, which is blocked too. */
export const clearedEntry: DeviceEntry = [entry.valid, 0, 0];
export const identityEntry: DeviceEntry = [entry.entryLow(0 as Frame, 0), entry.allPermissions, 0];
export const pagingEntry = (top: number, domainId: number): DeviceEntry => [entry.entryLow(topRoot(top), topLevels(top)), entry.allPermissions, domainId];

/** Every requester is blocked: what is not told of would pass. For who sets the unit up. */
export function blockAll(ram: Memory, table: Frame, entries: number): void {
  for (let sourceId = 0; sourceId < entries; sourceId++) poke(ram, entry.entryAt(table, sourceId), entry.blockedLow);
}

/** Writes the entries of a function and of its alias; on return the unit uses nothing of what they said before. */
export function writeEntries(amd: Amd, unit: AmdMember, pciFunction: Ref<'PciFunction'>, value: DeviceEntry): void {
  const rid = PciFunction.rid.peek(amd.kernel, pciFunction);
  const sourceId = PciFunction.sourceId.peek(amd.kernel, pciFunction);
  AmdUnitState.entryLock.acquire(amd.kernel, unit.state);
  for (const id of rid === sourceId ? [rid] : [rid, sourceId]) {
    const at = entry.entryAt(unit.deviceTable, id);
    const [low, domainId] = [peek(amd.ram, at), peek(amd.ram, at + 8)];
    EntryFound.emit(amd.kernel, TableKind.DEVICE_TABLE, id, 0, entry.usedLow(low), entry.usedDomain(low, domainId));
    EntryWritten.emit(amd.kernel, TableKind.DEVICE_TABLE, id, 0, entry.usedLow(value[0]), entry.usedDomain(value[0], value[2]));
    amd.operations.writeEntry(amd, at, value);
    amd.operations.queueCommand(amd, unit, commands.invalidateEntry(id));
  }
  amd.operations.completionWait(amd, unit);
  AmdUnitState.entryLock.release(amd.kernel, unit.state);
}

/** 128 bits as one point. In a free run what blocks is written first, what lets translate last. */
export function writeEntry({ ram }: Amd, at: number, [low, high, domainId]: DeviceEntry): void {
  if (ram.control !== null) ram.control.point(Op.WRITE, ram, at, entry.entryLabels[0]!);
  const blocks = (low & entry.translates) === 0;
  if (blocks) silent.store(ram, at, low);
  poke(ram, at + 8, domainId);
  poke(ram, at + 4, high);
  if (!blocks) silent.store(ram, at, low);
  if (ram.control !== null) ram.control.saw(low);
}

/** The same as two stores of 64 bits, which is what 7.2 does not do: present first. */
export function writeEntryInPieces({ ram }: Amd, at: number, [low, high, domainId]: DeviceEntry): void {
  write64(ram, at, high, low, entry.entryLabels[0]!);
  write64(ram, at + 8, 0, domainId, entry.entryLabels[1]!);
}
