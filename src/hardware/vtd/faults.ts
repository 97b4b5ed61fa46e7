/**
 * Fault reasons of legacy mode and the unit's fault records (VT-d specification 7.2, 11.4.14; SEMANTICS d.6).
 *
 * Recording is no point: it happens within the step that found the fault.
 */
import { lockLeaf, peek, poke, unlockLeaf } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access, WalkFault } from '#hostmem/page-table';
import { FaultStatus, faultRecordsOf, faultRecordWords, VtdRegisters } from './registers.ts';

/** Why the unit refused a request; 0 is "it did not". */
export const FaultReason = {
  NONE: 0,
  ROOT_NOT_PRESENT: 1,
  CONTEXT_NOT_PRESENT: 2,
  CONTEXT_INVALID: 3,
  BEYOND_WIDTH: 4,
  WRITE_DENIED: 5,
  READ_DENIED: 6,
  TABLE_ACCESS: 7,
  ROOT_ACCESS: 8,
  CONTEXT_ACCESS: 9,
  ROOT_RESERVED: 0xa,
  CONTEXT_RESERVED: 0xb,
  PAGE_RESERVED: 0xc,
} as const;
export type FaultReason = (typeof FaultReason)[keyof typeof FaultReason];

/** High word of a fault record's second half: a fault is recorded here (F), and the request was a read (T1). */
const recorded = 0x80000000 | 0;
const wasRead = 1 << 30;

/** What the unit says of a walk that failed. Second-stage entries have no present bit: what is absent lacks permission. */
export function reasonOf(fault: WalkFault, access: number): FaultReason {
  if (fault === WalkFault.BEYOND_WIDTH) return FaultReason.BEYOND_WIDTH;
  if (fault === WalkFault.RESERVED) return FaultReason.PAGE_RESERVED;
  if (fault === WalkFault.TABLE_ACCESS) return FaultReason.TABLE_ACCESS;
  return (access & Access.WRITE) !== 0 ? FaultReason.WRITE_DENIED : FaultReason.READ_DENIED;
}

/** A fault as software reads it; `sourceId` is the requester, `iovaHigh:iovaLow` the page address. */
export interface FaultRecord {
  readonly iovaHigh: number;
  readonly iovaLow: number;
  readonly sourceId: number;
  readonly reason: number;
  readonly write: boolean;
}

/** Records a fault, or sets the overflow bit when all records are taken; after an overflow nothing is recorded. */
export function recordFault(kernel: Memory, unit: Ref<'VtdRegisters'>, sourceId: number, iovaHigh: number, iovaLow: number, reason: FaultReason, access: number): void {
  const lock = VtdRegisters.faultLock.address(kernel, unit);
  lockLeaf(kernel, lock);
  const next = VtdRegisters.faultNext.peek(kernel, unit);
  const at = VtdRegisters.faultRecords.elementAddress(kernel, unit, next * faultRecordWords);
  const status = VtdRegisters.faultStatus.peek(kernel, unit);
  if ((peek(kernel, at + 12) & recorded) !== 0) VtdRegisters.faultStatus.poke(kernel, unit, status | FaultStatus.OVERFLOW);
  else if ((status & FaultStatus.OVERFLOW) === 0) {
    poke(kernel, at, iovaLow & ~4095);
    poke(kernel, at + 4, iovaHigh);
    poke(kernel, at + 8, sourceId);
    poke(kernel, at + 12, recorded | ((access & Access.WRITE) !== 0 ? 0 : wasRead) | reason);
    VtdRegisters.faultNext.poke(kernel, unit, (next + 1) % faultRecordsOf(VtdRegisters.capability.peekHigh(kernel, unit)));
    VtdRegisters.faultStatus.poke(kernel, unit, status | FaultStatus.PENDING);
  }
  unlockLeaf(kernel, lock);
}

/** What software's fault handler does: fetches the recorded faults, oldest first, frees their records and clears FSTS. */
export function takeFaults(kernel: Memory, unit: Ref<'VtdRegisters'>): FaultRecord[] {
  const lock = VtdRegisters.faultLock.address(kernel, unit);
  const count = faultRecordsOf(VtdRegisters.capability.peekHigh(kernel, unit));
  const taken: FaultRecord[] = [];
  lockLeaf(kernel, lock);
  for (let i = 0; i < count; i++) {
    const index = (VtdRegisters.faultNext.peek(kernel, unit) + i) % count;
    const at = VtdRegisters.faultRecords.elementAddress(kernel, unit, index * faultRecordWords);
    const last = peek(kernel, at + 12);
    if ((last & recorded) === 0) continue;
    const iova = { iovaHigh: peek(kernel, at + 4), iovaLow: peek(kernel, at) };
    taken.push({ ...iova, sourceId: peek(kernel, at + 8) & 0xffff, reason: last & 0xff, write: (last & wasRead) === 0 });
    poke(kernel, at + 12, 0);
  }
  const status = VtdRegisters.faultStatus.peek(kernel, unit);
  VtdRegisters.faultStatus.poke(kernel, unit, status & ~(FaultStatus.OVERFLOW | FaultStatus.PENDING));
  unlockLeaf(kernel, lock);
  return taken;
}
