/**
 * Entries of PASID tables, written in the kernel's order (`intel_pasid_setup_*`, `intel_pasid_tear_down_entry`).
 *
 * Present last when an entry appears: the others of its eight quadwords are complete by then, and nothing has to be flushed (Q4). When
 * it goes: present first, PASID cache, IOTLB, and zeroes only behind their wait (Q3). An entry is never changed while present; a replace
 * is break before make, since a unit that fetches in pieces would see a mixture (CVE-2026-45945, CVE-2026-45894).
 */
import { peek, poke, write64 } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import * as entry from '../../hardware/vtd/scalable-entry.ts';
import { assert } from '../../kernel/errno.ts';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import { IommuDomain } from '../domain.ts';
import { IommuDevice } from '../driver.ts';
import { EntryWritten, EntryZeroed } from '../events.ts';
import { ensurePasidEntry, pasidEntryAddress } from './pasid-table.ts';
import { VtdUnitState } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** The PASID that requests without one stand for (`IOMMU_NO_PASID`). */
export const ridPasid = 0;

/** Lets a PASID of the device translate through a paging domain. ENODEV when RAM has no room for the table (as `intel_pasid_setup_*`). */
export function setUpPasid(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number, domain: Ref<'IommuDomain'>, domainId: number): 0 | 'ENODEV' {
  const root = IommuDomain.root.peek(vtd.kernel, domain);
  const levels = IommuDomain.levels.peek(vtd.kernel, domain);
  if (!vtd.isFirstStage(domain)) return writeEntry(vtd, unit, device, pasid, entry.secondStageWord0(root, levels), domainId, 0);
  return writeEntry(vtd, unit, device, pasid, entry.firstStageWord0(levels), domainId, entry.firstStageWord2(root, levels));
}

/** Lets a PASID pass through. */
export function setUpPassThrough(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number, levels: number, domainId: number): 0 | 'ENODEV' {
  return writeEntry(vtd, unit, device, pasid, entry.passThroughWord0(levels), domainId, 0);
}

/** The entry is all zeroes before; the low words suffice, tables being below 4 GiB. */
function writeEntry(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number, word0: number, word1: number, word2: number): 0 | 'ENODEV' {
  const { kernel, ram } = vtd;
  VtdUnitState.contextLock.acquire(kernel, unit.state);
  const at = ensurePasidEntry(vtd, device, pasid);
  if (at !== 0) {
    assert((peek(ram, at) & entry.present) === 0, 'a PASID entry is torn down before it is set up again');
    EntryWritten.emit(kernel, TableKind.PASID, requesterOf(vtd, device), pasid, word0, word1, word2);
    if (word2 !== 0) write64(ram, at + 16, 0, word2, entry.pasidLabels[2]);
    write64(ram, at + 8, 0, word1, entry.pasidLabels[1]);
    write64(ram, at, 0, word0, entry.pasidLabels[0]);
  }
  VtdUnitState.contextLock.release(kernel, unit.state);
  return at === 0 ? 'ENODEV' : 0;
}

/** Every request of the PASID faults from here on; on return nothing uses what the entry named. */
export function tearDownPasid(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number): void {
  const { kernel, ram } = vtd;
  VtdUnitState.contextLock.acquire(kernel, unit.state);
  const at = pasidEntryAddress(vtd, device, pasid);
  const word0 = at === 0 ? 0 : peek(ram, at);
  const isPresent = (word0 & entry.present) !== 0;
  const domainId = isPresent ? entry.domainIdOf(peek(ram, at + 8)) : 0;
  if (isPresent) {
    EntryWritten.emit(kernel, TableKind.PASID, requesterOf(vtd, device), pasid, word0 & ~entry.present);
    write64(ram, at, 0, word0 & ~entry.present, entry.pasidLabels[0]);
  }
  VtdUnitState.contextLock.release(kernel, unit.state);
  if (!isPresent) return;
  vtd.operations.flushPasid(vtd, unit, device, domainId, pasid, entry.pagingTypeOf(word0) !== entry.PagingType.SECOND_STAGE);
  zeroEntry(vtd, at);
  EntryZeroed.emit(kernel, TableKind.PASID, requesterOf(vtd, device), pasid);
}

/** The id by which hardware names the device in its reports. */
export const requesterOf = (vtd: Vtd, device: Ref<'IommuDevice'>): number =>
  PciFunction.sourceId.peek(vtd.kernel, IommuDevice.function.peek(vtd.kernel, device));

/** No point: the unit was drained, and reads nothing of an entry that is not present. */
function zeroEntry(vtd: Vtd, at: number): void {
  for (let word = 0; word < entry.pasidEntryBytes; word += 4) poke(vtd.ram, at + word, 0);
}
