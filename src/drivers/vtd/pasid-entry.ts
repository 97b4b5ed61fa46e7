/**
 * Entries of PASID tables, written in the kernel's order (`intel_pasid_setup_*`, `intel_pasid_tear_down_entry`).
 *
 * Present last when an entry appears: the others of its eight quadwords are complete by then, and nothing has to be flushed (Q4). When
 * it goes: present first, PASID cache, IOTLB, and zeroes only behind their wait (Q3). An entry is never changed while present; a replace
 * is break before make (other policies: `pasid-replace.ts`), since a unit that fetches in pieces would see a mixture (CVE-2026-45945, CVE-2026-45894).
 */
import { peek, poke, write64 } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import * as entry from '../../hardware/vtd/scalable-entry.ts';
import { assert } from '../../kernel/errno.ts';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import { IommuDomain } from '../domain.ts';
import { IommuDevice } from '../driver.ts';
import type { EntryValue } from '../entry-stages.ts';
import { EntryFound, EntryWritten, EntryZeroed } from '../events.ts';
import { isNested, nestedEntry, suits } from './nested.ts';
import { ensurePasidEntry, pasidEntryAddress } from './pasid-table.ts';
import { VtdUnitState } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** The PASID that requests without one stand for (`IOMMU_NO_PASID`). */
export const ridPasid = 0;

/** The entry of a paging domain, or of a nested one. */
export function pagingEntry(vtd: Vtd, domain: Ref<'IommuDomain'>, domainId: number): EntryValue {
  if (isNested(vtd.kernel, domain)) return nestedEntry(vtd.kernel, domain, domainId);
  const root = IommuDomain.root.peek(vtd.kernel, domain);
  const levels = IommuDomain.levels.peek(vtd.kernel, domain);
  return vtd.isFirstStage(domain) ? [entry.firstStageWord0(levels), domainId, entry.firstStageWord2(root, levels)] : [entry.secondStageWord0(root, levels), domainId, 0];
}

/** Lets a PASID of the device translate through a domain. ENODEV when RAM has no room for the table; EINVAL for a first stage that the unit does not have (as `intel_pasid_setup_*`). */
export function setUpPasid(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number, domain: Ref<'IommuDomain'>, domainId: number): 0 | 'ENODEV' | 'EINVAL' {
  if (isNested(vtd.kernel, domain) && !suits(vtd.kernel, unit, domain)) return 'EINVAL';
  return setUp(vtd, unit, device, pasid, pagingEntry(vtd, domain, domainId));
}

/** Lets a PASID pass through. */
export function setUpPassThrough(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number, levels: number, domainId: number): 0 | 'ENODEV' {
  return setUp(vtd, unit, device, pasid, [entry.passThroughWord0(levels), domainId, 0]);
}

/** The entry is all zeroes before. */
function setUp(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number, value: EntryValue): 0 | 'ENODEV' {
  VtdUnitState.contextLock.acquire(vtd.kernel, unit.state);
  const at = ensurePasidEntry(vtd, device, pasid);
  if (at !== 0) {
    assert((peek(vtd.ram, at) & entry.present) === 0, 'a PASID entry is torn down before it is set up again');
    EntryWritten.emit(vtd.kernel, TableKind.PASID, requesterOf(vtd, device), pasid, ...value);
    for (let word = 2; word >= 0; word--) writePasidWord(vtd, at, word, value[word]!);
  }
  VtdUnitState.contextLock.release(vtd.kernel, unit.state);
  return at === 0 ? 'ENODEV' : 0;
}

/** Every request of the PASID faults from here on; on return nothing uses what the entry named. */
export function tearDownPasid(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, pasid: number): void {
  VtdUnitState.contextLock.acquire(vtd.kernel, unit.state);
  const at = presentPasid(vtd, device, pasid);
  const [word0, word1] = at === 0 ? [0, 0] : readPasid(vtd, at);
  if (at !== 0) {
    EntryWritten.emit(vtd.kernel, TableKind.PASID, requesterOf(vtd, device), pasid, word0 & ~entry.present);
    writePasidWord(vtd, at, 0, word0 & ~entry.present);
  }
  VtdUnitState.contextLock.release(vtd.kernel, unit.state);
  if (at === 0) return;
  vtd.operations.flushPasid(vtd, unit, device, entry.domainIdOf(word1), pasid, isFlushedByPasid(word0));
  zeroEntry(vtd, at);
  EntryZeroed.emit(vtd.kernel, TableKind.PASID, requesterOf(vtd, device), pasid);
}

/** Byte address of a PASID's entry if it is present, else 0: for who is about to change it. Silent. */
export function presentPasid(vtd: Vtd, device: Ref<'IommuDevice'>, pasid: number): number {
  const at = pasidEntryAddress(vtd, device, pasid);
  if (at === 0 || (peek(vtd.ram, at) & entry.present) === 0) return 0;
  EntryFound.emit(vtd.kernel, TableKind.PASID, requesterOf(vtd, device), pasid, ...readPasid(vtd, at));
  return at;
}

/** Silent: who changes entries holds `contextLock`. */
export const readPasid = (vtd: Vtd, at: number): EntryValue => [peek(vtd.ram, at), peek(vtd.ram, at + 8), peek(vtd.ram, at + 16)];

/** One quadword, which is one point; its low word suffices, tables being below 4 GiB. A word that stays as it is is not written. */
export function writePasidWord(vtd: Vtd, at: number, word: number, value: number): void {
  if (peek(vtd.ram, at + word * 8) !== value) write64(vtd.ram, at + word * 8, 0, value, entry.pasidLabels[word]!);
}

/** First stage and pass-through are flushed by PASID; second stage, alone or under a first, by domain id alone (`intel_pasid_tear_down_entry`). */
export const isFlushedByPasid = (word0: number): boolean =>
  entry.pagingTypeOf(word0) !== entry.PagingType.SECOND_STAGE && entry.pagingTypeOf(word0) !== entry.PagingType.NESTED;

/** No point: the unit was drained, and reads nothing of an entry that is not present. */
function zeroEntry(vtd: Vtd, at: number): void {
  for (let word = 0; word < entry.pasidEntryBytes; word += 4) poke(vtd.ram, at + word, 0);
}

/** The id by which hardware names the device in its reports. */
export const requesterOf = (vtd: Vtd, device: Ref<'IommuDevice'>): number =>
  PciFunction.sourceId.peek(vtd.kernel, IommuDevice.function.peek(vtd.kernel, device));
