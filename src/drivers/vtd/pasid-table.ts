/**
 * PASID tables of scalable mode: one directory for each device (the kernel's `intel_pasid_alloc_table`, `pci_pasid_table_setup`).
 *
 * The context entry points to the directory from probe to release; tables of 64 entries are added to it when one of their PASIDs is
 * first set up, by an exchange whose loser goes on with the winner's, and are freed with it. A device has its own, so that no PASID of
 * another device can be reached through it.
 */
import { install64, peek, poke, write64 } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { frameOf, hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import * as entry from '../../hardware/vtd/scalable-entry.ts';
import { IommuDevice } from '../driver.ts';
import { EntryFound, EntryWritten, EntryZeroed } from '../events.ts';
import { supportsAts } from './ats.ts';
import { pasidsOf } from './device-pasid.ts';
import { VtdUnitState } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** Gives the device a directory and points its context entry to it. False when RAM is used up; then nothing has changed. */
export function setUpPasidTable(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>): boolean {
  const directory = vtd.frames.allocate(Owner.KERNEL);
  if (directory === 0) return false;
  IommuDevice.pasidDirectory.poke(vtd.kernel, device, directory);
  const pciFunction = IommuDevice.function.peek(vtd.kernel, device);
  const flags = (supportsAts(vtd, unit, pciFunction) ? entry.deviceTlbEnabled : 0) | (pasidsOf(vtd, unit, pciFunction) > 0 ? entry.pasidsEnabled : 0);
  for (const sourceId of requesters(vtd, unit, device)) installContext(vtd, unit, sourceId, directory, flags);
  return true;
}

/**
 * Takes the context entry back and frees the directory and its tables: present bit, flush, zeroes, and only then the frames
 * (CVE-2026-45944). Every PASID was torn down before.
 */
export function tearDownPasidTable(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>): void {
  const directory = IommuDevice.pasidDirectory.peek(vtd.kernel, device) as Frame;
  for (const sourceId of requesters(vtd, unit, device)) clearContext(vtd, unit, device, sourceId, directory);
  freePasidTables(vtd, device);
}

/** Empties a context entry, whatever it says; hardware may be reading it. */
export function zeroContext(vtd: Vtd, unit: VtdUnit, sourceId: number): void {
  const at = contextAddress(vtd, unit, sourceId);
  EntryFound.emit(vtd.kernel, TableKind.SCALABLE_CONTEXT, sourceId, 0, peek(vtd.ram, at));
  EntryWritten.emit(vtd.kernel, TableKind.SCALABLE_CONTEXT, sourceId, 0);
  write64(vtd.ram, at + 8, 0, 0, entry.contextLabels[1]);
  write64(vtd.ram, at, 0, 0, entry.contextLabels[0]);
}

/** Frees the directory and its tables. */
export function freePasidTables(vtd: Vtd, device: Ref<'IommuDevice'>): void {
  const directory = IommuDevice.pasidDirectory.peek(vtd.kernel, device) as Frame;
  for (let at = hpaOf(directory) as number; at < hpaOf(directory) + entry.directoryEntries * 8; at += 8) {
    const table = peek(vtd.ram, at);
    if ((table & entry.present) !== 0) vtd.frames.drop(frameOf(table));
  }
  vtd.frames.drop(directory);
}

/** Byte address of a PASID's entry, 0 when its table was never made. Silent. */
export function pasidEntryAddress(vtd: Vtd, device: Ref<'IommuDevice'>, pasid: number): number {
  const directory = IommuDevice.pasidDirectory.peek(vtd.kernel, device) as Frame;
  const word = peek(vtd.ram, entry.directoryEntryAt(directory, pasid));
  return (word & entry.present) === 0 ? 0 : entry.pasidEntryAt(frameOf(word), pasid);
}

/** As `pasidEntryAddress`, but makes what is missing; 0 when RAM is used up (`intel_pasid_get_entry`). */
export function ensurePasidEntry(vtd: Vtd, device: Ref<'IommuDevice'>, pasid: number): number {
  const found = pasidEntryAddress(vtd, device, pasid);
  if (found !== 0) return found;
  const table = vtd.frames.allocate(Owner.KERNEL);
  if (table === 0) return 0;
  if (!vtd.operations.addPasidTable(vtd, device, pasid, table)) vtd.frames.drop(table);
  return pasidEntryAddress(vtd, device, pasid);
}

/** Puts a table of 64 entries where the device finds it. False when somebody was faster. */
export function addPasidTable(vtd: Vtd, device: Ref<'IommuDevice'>, pasid: number, table: Frame): boolean {
  const at = entry.directoryEntryAt(IommuDevice.pasidDirectory.peek(vtd.kernel, device) as Frame, pasid);
  return install64(vtd.ram, at, 0, hpaOf(table) | entry.present, entry.directoryLabel) === 0;
}

/**
 * The ids whose context entries point to the device's directory. 7.2 sets up none for the alias under which a bridge forwards the
 * requests: whatever is attached, they fault (K8 `aliasPasidTableSkipped`).
 */
export function requesters(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>): number[] {
  const pciFunction = IommuDevice.function.peek(vtd.kernel, device);
  const rid = PciFunction.rid.peek(vtd.kernel, pciFunction);
  const sourceId = PciFunction.sourceId.peek(vtd.kernel, pciFunction);
  const skipped = VtdUnitState.aliasPasidTableSkipped.peek(vtd.kernel, unit.state) !== 0;
  return rid === sourceId || skipped ? [rid] : [rid, sourceId];
}

/** An alias belongs to the first device behind the bridge: an entry that is present is left. */
function installContext(vtd: Vtd, unit: VtdUnit, sourceId: number, directory: Frame, flags: number): void {
  const { kernel, ram } = vtd;
  VtdUnitState.contextLock.acquire(kernel, unit.state);
  const at = contextAddress(vtd, unit, sourceId);
  if ((peek(ram, at) & entry.present) === 0) {
    EntryWritten.emit(kernel, TableKind.SCALABLE_CONTEXT, sourceId, 0, entry.contextWord0(directory, flags));
    write64(ram, at + 8, 0, 0, entry.contextLabels[1]);
    write64(ram, at, 0, entry.contextWord0(directory, flags), entry.contextLabels[0]);
  }
  VtdUnitState.contextLock.release(kernel, unit.state);
}

function clearContext(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, sourceId: number, directory: Frame): void {
  const { kernel, ram } = vtd;
  VtdUnitState.contextLock.acquire(kernel, unit.state);
  const at = contextAddress(vtd, unit, sourceId);
  const word = peek(ram, at);
  const ours = (word & entry.present) !== 0 && frameOf(word) === directory;
  if (ours) {
    EntryFound.emit(kernel, TableKind.SCALABLE_CONTEXT, sourceId, 0, word);
    EntryWritten.emit(kernel, TableKind.SCALABLE_CONTEXT, sourceId, 0, word & ~entry.present);
    write64(ram, at, 0, word & ~entry.present, entry.contextLabels[0]);
  }
  VtdUnitState.contextLock.release(kernel, unit.state);
  if (!ours) return;
  vtd.operations.flushScalableContext(vtd, unit, device, sourceId);
  for (let word = 0; word < entry.contextEntryBytes; word += 4) poke(ram, at + word, 0);
  EntryZeroed.emit(kernel, TableKind.SCALABLE_CONTEXT, sourceId);
}

/** `probe` has made the context table. */
function contextAddress(vtd: Vtd, unit: VtdUnit, sourceId: number): number {
  const rootTable = VtdUnitState.rootTable.peek(vtd.kernel, unit.state) as Frame;
  return entry.contextEntryAt(frameOf(peek(vtd.ram, entry.rootHalfAt(rootTable, sourceId))), sourceId);
}
