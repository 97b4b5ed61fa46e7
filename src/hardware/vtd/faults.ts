/**
 * Fault reasons of both modes and the unit's fault records (VT-d specification 7.2, 11.4.14; SEMANTICS d.6).
 *
 * Recording is no point: it happens within the step that found the fault.
 */
import { lockLeaf, peek, poke, unlockLeaf } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { WalkFault, type WalkResult } from '#hostmem/page-walk';
import { FaultStatus, faultRecordsOf, faultRecordWords, VtdRegisters } from './registers.ts';

/** Why the unit refused a request in legacy mode; 0 is "it did not". */
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
  /** TT does not allow translation requests or translated ones. */
  DEVICE_TLB_FORBIDDEN: 0xd,
} as const;
export type FaultReason = (typeof FaultReason)[keyof typeof FaultReason];

/** Why the unit refused a request in scalable mode. Reasons for privileged and executing requests are left out: there are none. */
export const ScalableReason = {
  NONE: 0,
  /** RTADDR names a mode that does not exist, or the one that aborts every DMA. */
  ROOT_TABLE_INVALID: 0x30,
  /** A request with PASID in legacy mode. */
  PASID_IN_LEGACY_MODE: 0x31,
  ROOT_ACCESS: 0x38,
  ROOT_NOT_PRESENT: 0x39,
  ROOT_RESERVED: 0x3a,
  CONTEXT_ACCESS: 0x40,
  CONTEXT_NOT_PRESENT: 0x41,
  CONTEXT_RESERVED: 0x42,
  DEVICE_TLB_FORBIDDEN: 0x44,
  PASIDS_DISABLED: 0x45,
  PASID_TOO_LARGE: 0x46,
  RID_PASID: 0x48,
  DIRECTORY_ACCESS: 0x50,
  DIRECTORY_NOT_PRESENT: 0x51,
  DIRECTORY_RESERVED: 0x52,
  PASID_ACCESS: 0x58,
  PASID_NOT_PRESENT: 0x59,
  PASID_RESERVED: 0x5a,
  PASID_INVALID: 0x5b,
  FIRST_STAGE_ACCESS: 0x70,
  FIRST_STAGE_NOT_PRESENT: 0x71,
  FIRST_STAGE_RESERVED: 0x72,
  FIRST_STAGE_ROOT_ACCESS: 0x73,
  /** Of two stages: what the second one has against an access to a table of the first. */
  TABLE_BEYOND_SECOND_STAGE: 0x74,
  ROOT_NOT_READABLE: 0x75,
  TABLE_NOT_READABLE: 0x76,
  TABLE_NOT_WRITABLE: 0x77,
  SECOND_STAGE_ACCESS: 0x78,
  SECOND_STAGE_NOT_PRESENT: 0x79,
  SECOND_STAGE_RESERVED: 0x7a,
  SECOND_STAGE_ROOT_ACCESS: 0x7b,
  NOT_CANONICAL: 0x80,
  SUPERVISOR_PAGE: 0x81,
  BEYOND_HOST_WIDTH: 0x83,
  BEYOND_SECOND_STAGE: 0x84,
  WRITE_DENIED: 0x85,
  READ_DENIED: 0x86,
} as const;
export type ScalableReason = (typeof ScalableReason)[keyof typeof ScalableReason];

/**
 * Reasons that the recorded emulator (QEMU 7.2) gives in scalable mode: those of legacy mode for what legacy mode has, and one for all
 * that can be wrong between PASID directory and PASID entry (`traces/CONFIRMED.md` K7, K8: 0x58 and 0x02). The rest is derived.
 */
const recordedReasons: Readonly<Record<number, FaultReason>> = {
  [ScalableReason.ROOT_ACCESS]: FaultReason.ROOT_ACCESS,
  [ScalableReason.ROOT_NOT_PRESENT]: FaultReason.ROOT_NOT_PRESENT,
  [ScalableReason.ROOT_RESERVED]: FaultReason.ROOT_RESERVED,
  [ScalableReason.CONTEXT_ACCESS]: FaultReason.CONTEXT_ACCESS,
  [ScalableReason.CONTEXT_NOT_PRESENT]: FaultReason.CONTEXT_NOT_PRESENT,
  [ScalableReason.CONTEXT_RESERVED]: FaultReason.CONTEXT_RESERVED,
  [ScalableReason.SECOND_STAGE_ACCESS]: FaultReason.TABLE_ACCESS,
  [ScalableReason.SECOND_STAGE_RESERVED]: FaultReason.PAGE_RESERVED,
  [ScalableReason.SECOND_STAGE_ROOT_ACCESS]: FaultReason.TABLE_ACCESS,
  [ScalableReason.BEYOND_SECOND_STAGE]: FaultReason.BEYOND_WIDTH,
  [ScalableReason.BEYOND_HOST_WIDTH]: FaultReason.BEYOND_WIDTH,
  [ScalableReason.WRITE_DENIED]: FaultReason.WRITE_DENIED,
  [ScalableReason.READ_DENIED]: FaultReason.READ_DENIED,
};

/** The reason that the recorded emulator gives in place of one of scalable mode. */
export function recordedReasonOf(reason: ScalableReason, access: number): number {
  if (reason === ScalableReason.SECOND_STAGE_NOT_PRESENT) return (access & Access.WRITE) !== 0 ? FaultReason.WRITE_DENIED : FaultReason.READ_DENIED;
  if (reason >= ScalableReason.RID_PASID && reason <= ScalableReason.PASID_INVALID) return ScalableReason.PASID_ACCESS;
  return recordedReasons[reason] ?? reason;
}

/** High word of a fault record's second half: a fault is recorded here (F), and the request was a read (T1). */
const recorded = 0x80000000 | 0;
const wasRead = 1 << 30;
const pasidShift = 8;
/** Low word of the second half: the request carried a PASID (PP). */
const hasPasid = 0x80000000 | 0;

/** What the unit says of a walk that failed. Second-stage entries have no present bit: what is absent lacks permission. */
export function reasonOf(fault: WalkFault, access: number): FaultReason {
  if (fault === WalkFault.BEYOND_WIDTH) return FaultReason.BEYOND_WIDTH;
  if (fault === WalkFault.RESERVED) return FaultReason.PAGE_RESERVED;
  if (fault === WalkFault.TABLE_ACCESS) return FaultReason.TABLE_ACCESS;
  return (access & Access.WRITE) !== 0 ? FaultReason.WRITE_DENIED : FaultReason.READ_DENIED;
}

/** What the unit says in scalable mode of a walk that failed. */
export function scalableReasonOf(walk: WalkResult, firstStage: boolean, levels: number, access: number): ScalableReason {
  const isRoot = walk.level > levels;
  switch (walk.fault) {
    case WalkFault.BEYOND_WIDTH: return firstStage ? ScalableReason.NOT_CANONICAL : ScalableReason.BEYOND_SECOND_STAGE;
    case WalkFault.NOT_PRESENT: return firstStage ? ScalableReason.FIRST_STAGE_NOT_PRESENT : ScalableReason.SECOND_STAGE_NOT_PRESENT;
    case WalkFault.RESERVED: return firstStage ? ScalableReason.FIRST_STAGE_RESERVED : ScalableReason.SECOND_STAGE_RESERVED;
    case WalkFault.SUPERVISOR: return ScalableReason.SUPERVISOR_PAGE;
    case WalkFault.TABLE_ACCESS: {
      if (firstStage) return isRoot ? ScalableReason.FIRST_STAGE_ROOT_ACCESS : ScalableReason.FIRST_STAGE_ACCESS;
      return isRoot ? ScalableReason.SECOND_STAGE_ROOT_ACCESS : ScalableReason.SECOND_STAGE_ACCESS;
    }
    default: return (access & Access.WRITE) !== 0 ? ScalableReason.WRITE_DENIED : ScalableReason.READ_DENIED;
  }
}

/** A fault as software reads it; `sourceId` is the requester, `iovaHigh:iovaLow` the page address. */
export interface FaultRecord {
  readonly iovaHigh: number;
  readonly iovaLow: number;
  readonly sourceId: number;
  /** Of a request that carried one. */
  readonly pasid?: number;
  readonly reason: number;
  readonly write: boolean;
}

/** Records a fault, of a request with a PASID unless that is negative, or sets the overflow bit when all records are taken; after an overflow nothing is recorded. */
export function recordFault(kernel: Memory, unit: Ref<'VtdRegisters'>, sourceId: number, pasid: number, iovaHigh: number, iovaLow: number, reason: number, access: number): void {
  const lock = VtdRegisters.faultLock.address(kernel, unit);
  lockLeaf(kernel, lock);
  const next = VtdRegisters.faultNext.peek(kernel, unit);
  const at = VtdRegisters.faultRecords.elementAddress(kernel, unit, next * faultRecordWords);
  const status = VtdRegisters.faultStatus.peek(kernel, unit);
  if ((peek(kernel, at + 12) & recorded) !== 0) VtdRegisters.faultStatus.poke(kernel, unit, status | FaultStatus.OVERFLOW);
  else if ((status & FaultStatus.OVERFLOW) === 0) {
    poke(kernel, at, iovaLow & ~4095);
    poke(kernel, at + 4, iovaHigh);
    poke(kernel, at + 8, sourceId | (pasid < 0 ? 0 : hasPasid));
    poke(kernel, at + 12, recorded | ((access & Access.WRITE) !== 0 ? 0 : wasRead) | (pasid < 0 ? 0 : pasid << pasidShift) | reason);
    VtdRegisters.faultNext.poke(kernel, unit, (next + 1) % faultRecordsOf(VtdRegisters.capability.peekHigh(kernel, unit)));
    VtdRegisters.faultStatus.poke(kernel, unit, status | FaultStatus.PENDING);
  }
  unlockLeaf(kernel, lock);
}

/** Sets and clears bits of FSTS in one step: faulting requests, the queue and software all write it. */
export function changeFaultStatus(kernel: Memory, unit: Ref<'VtdRegisters'>, set: number, clear: number): void {
  const lock = VtdRegisters.faultLock.address(kernel, unit);
  lockLeaf(kernel, lock);
  VtdRegisters.faultStatus.poke(kernel, unit, (VtdRegisters.faultStatus.peek(kernel, unit) & ~clear) | set);
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
    const source = peek(kernel, at + 8);
    const pasid = (source & hasPasid) === 0 ? {} : { pasid: (last >>> pasidShift) & 0xfffff };
    taken.push({ ...iova, sourceId: source & 0xffff, ...pasid, reason: last & 0xff, write: (last & wasRead) === 0 });
    poke(kernel, at + 12, 0);
  }
  const status = VtdRegisters.faultStatus.peek(kernel, unit);
  VtdRegisters.faultStatus.poke(kernel, unit, status & ~(FaultStatus.OVERFLOW | FaultStatus.PENDING));
  unlockLeaf(kernel, lock);
  return taken;
}
