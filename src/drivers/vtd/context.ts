/**
 * Context tables, and the context entries of legacy mode, written in the kernel's order.
 *
 * Present word last when an entry appears, first when it goes; in between the unit is told and drained (Q6). A replace is break
 * before make: there is no moment at which an entry is half of one domain and half of another (CVE-2026-45945).
 */
import { peek, poke, write64 } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import * as entry from '../../hardware/vtd/context-entry.ts';
import { contextAddress } from '../../hardware/vtd/requester.ts';
import { rootHalfAt } from '../../hardware/vtd/scalable-entry.ts';
import { IommuDevice } from '../driver.ts';
import { EntryFound, EntryWritten, EntryZeroed } from '../events.ts';
import { VtdUnitState } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** Makes sure that the requester's bus, or in scalable mode its half of the bus, has a context table. False when RAM is used up. */
export function ensureContextTable(vtd: Vtd, unit: VtdUnit, sourceId: number): boolean {
  const { kernel, ram } = vtd;
  VtdUnitState.contextLock.acquire(kernel, unit.state);
  const at = unit.scalable ? rootHalfAt(rootTable(vtd, unit), sourceId) : entry.rootEntryAt(rootTable(vtd, unit), sourceId);
  const missing = (peek(ram, at) & entry.present) === 0;
  const table = missing ? vtd.frames.allocate(Owner.KERNEL) : 0;
  if (table !== 0) poke(ram, at, hpaOf(table as Frame) | entry.present);
  VtdUnitState.contextLock.release(kernel, unit.state);
  return !missing || table !== 0;
}

/** Writes the entries of a function and of its alias; an entry that is present already is left (`domain_context_mapping_one`). */
export function installContext(vtd: Vtd, unit: VtdUnit, pciFunction: Ref<'PciFunction'>, high: number, low: number): void {
  const rid = PciFunction.rid.peek(vtd.kernel, pciFunction);
  const sourceId = PciFunction.sourceId.peek(vtd.kernel, pciFunction);
  installEntry(vtd, unit, rid, high, low);
  if (sourceId !== rid) installEntry(vtd, unit, sourceId, high, low);
}

function installEntry(vtd: Vtd, unit: VtdUnit, sourceId: number, high: number, low: number): void {
  const { kernel, ram } = vtd;
  VtdUnitState.contextLock.acquire(kernel, unit.state);
  const at = contextAddress(ram, rootTable(vtd, unit), sourceId);
  if ((peek(ram, at) & entry.present) === 0) {
    EntryWritten.emit(kernel, TableKind.CONTEXT, sourceId, 0, low, high);
    write64(ram, at + 8, 0, high, entry.highLabel);
    write64(ram, at, 0, low, entry.lowLabel);
  }
  VtdUnitState.contextLock.release(kernel, unit.state);
}

/** Removes the entries of a function and of its alias; on return nothing uses what they named (`domain_context_clear`). */
export function clearContext(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>): void {
  const pciFunction = IommuDevice.function.peek(vtd.kernel, device);
  const rid = PciFunction.rid.peek(vtd.kernel, pciFunction);
  const sourceId = PciFunction.sourceId.peek(vtd.kernel, pciFunction);
  clearEntry(vtd, unit, device, rid);
  if (sourceId !== rid) clearEntry(vtd, unit, device, sourceId);
}

function clearEntry(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, sourceId: number): void {
  const { kernel, ram } = vtd;
  VtdUnitState.contextLock.acquire(kernel, unit.state);
  const at = contextAddress(ram, rootTable(vtd, unit), sourceId);
  const low = at === 0 ? 0 : peek(ram, at);
  const domainId = at === 0 ? 0 : entry.domainIdOf(peek(ram, at + 8));
  if ((low & entry.present) !== 0) {
    EntryFound.emit(kernel, TableKind.CONTEXT, sourceId, 0, low, peek(ram, at + 8));
    EntryWritten.emit(kernel, TableKind.CONTEXT, sourceId, 0, low & ~entry.present);
    write64(ram, at, 0, low & ~entry.present, entry.lowLabel);
  }
  VtdUnitState.contextLock.release(kernel, unit.state);
  if ((low & entry.present) === 0) return;
  vtd.operations.flushContext(vtd, unit, device, sourceId, domainId);
  zeroEntry(vtd, at);
  EntryZeroed.emit(kernel, TableKind.CONTEXT, sourceId);
}

/** No point: the unit was drained, and reads nothing of an entry that is not present. */
function zeroEntry(vtd: Vtd, at: number): void {
  for (let word = 0; word < entry.entryBytes; word += 4) poke(vtd.ram, at + word, 0);
}

function rootTable(vtd: Vtd, unit: VtdUnit): Frame {
  return VtdUnitState.rootTable.peek(vtd.kernel, unit.state) as Frame;
}
