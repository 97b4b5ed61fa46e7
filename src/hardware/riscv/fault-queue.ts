/**
 * The fault queue of a RISC-V IOMMU (RISC-V IOMMU specification, "Fault/Event-Queue"; SEMANTICS d.6): a ring of records in RAM, written by
 * the unit and read by software.
 *
 *   CAUSE [11:0] · PID [31:12] · PV 32 · PRIV 33 · TTYP [39:34] · DID [63:40] · custom · iotval · iotval2
 *
 * Recording is no point: it happens within the step that found the fault.
 */
import { lockLeaf, peek, poke, unlockLeaf } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { highOf, lowOf } from '#hostmem/iova';
import type { Ref } from '#hostmem/object';
import { isGuestPageFault } from './cause.ts';
import { transactionType } from './fault-record.ts';
import { QueueStatus, ringAt, ringLength, RiscvRegisters } from './registers.ts';
import { noProcess, type GuestAddress, type RiscvRequest } from './translation.ts';

const recordBytes = 32;

/** A fault as software reads it; `iovaHigh:iovaLow` is what the request asked for. */
export interface RiscvFault {
  readonly cause: number;
  readonly deviceId: number;
  readonly processId: number;
  readonly type: number;
  readonly iovaHigh: number;
  readonly iovaLow: number;
}

/** Writes a record, or sets fqcsr.fqof when the ring is full; nothing while the queue is off or has overflowed. */
export function recordFault({ kernel, ram }: Host, unit: Ref<'RiscvRegisters'>, cause: number, request: RiscvRequest, guest: GuestAddress): void {
  const lock = RiscvRegisters.faultLock.address(kernel, unit);
  lockLeaf(kernel, lock);
  const status = RiscvRegisters.faultStatus.peek(kernel, unit);
  const base = RiscvRegisters.faultQueue.peek(kernel, unit);
  const tail = RiscvRegisters.faultTail.peek(kernel, unit);
  const next = (tail + 1) % ringLength(base);
  if ((status & QueueStatus.ON) !== 0 && (status & QueueStatus.OVERFLOW) === 0) {
    if (next === RiscvRegisters.faultHead.peek(kernel, unit)) RiscvRegisters.faultStatus.poke(kernel, unit, status | QueueStatus.OVERFLOW);
    else {
      const at = ringAt(base) + tail * recordBytes;
      wordsOf(cause, request, guest).forEach((word, index) => poke(ram, at + index * 4, word));
      RiscvRegisters.faultTail.poke(kernel, unit, next);
    }
  }
  unlockLeaf(kernel, lock);
}

function wordsOf(cause: number, request: RiscvRequest, guest: GuestAddress): number[] {
  const hasProcess = request.processId !== noProcess;
  const first = cause | (hasProcess ? request.processId << 12 : 0);
  const second = (hasProcess ? 1 : 0) | (request.supervisor ? 2 : 0) | (transactionType(request) << 2) | (request.deviceId << 8);
  const isGuest = isGuestPageFault(cause);
  const guestLow = lowOf(guest.page) | (guest.offset & ~3) | (guest.implicit ? 1 : 0) | (guest.write ? 2 : 0);
  return [first, second, 0, 0, request.iovaLow, request.iovaHigh, isGuest ? guestLow : 0, isGuest ? highOf(guest.page) : 0];
}

/** What software's fault handler does: fetches the records, oldest first, and clears the overflow. */
export function takeFaults({ kernel, ram }: Host, unit: Ref<'RiscvRegisters'>): RiscvFault[] {
  const lock = RiscvRegisters.faultLock.address(kernel, unit);
  const base = RiscvRegisters.faultQueue.peek(kernel, unit);
  const taken: RiscvFault[] = [];
  lockLeaf(kernel, lock);
  const tail = RiscvRegisters.faultTail.peek(kernel, unit);
  for (let head = RiscvRegisters.faultHead.peek(kernel, unit); head !== tail; head = (head + 1) % ringLength(base)) {
    const at = ringAt(base) + head * recordBytes;
    const first = peek(ram, at);
    const second = peek(ram, at + 4);
    const processId = (second & 1) === 0 ? noProcess : first >>> 12;
    taken.push({ cause: first & 0xfff, deviceId: second >>> 8, processId, type: (second >>> 2) & 63, iovaHigh: peek(ram, at + 20), iovaLow: peek(ram, at + 16) });
  }
  RiscvRegisters.faultHead.poke(kernel, unit, tail);
  RiscvRegisters.faultStatus.poke(kernel, unit, RiscvRegisters.faultStatus.peek(kernel, unit) & ~QueueStatus.OVERFLOW);
  unlockLeaf(kernel, lock);
  return taken;
}
