/**
 * Submission to a unit's invalidation queue (the kernel's `qi_submit_sync`).
 *
 *   slot   FREE -> IN_USE    by the submitter, under the queue's lock
 *          IN_USE -> DONE    by hardware: the status write of a wait, a real write to RAM
 *          IN_USE -> ABORTED by `queue-fault-handler.ts`, for a descriptor that the unit refused, or a wait that it dropped (then bits [31:8] have the
 *                   requester that did not answer)
 *          any -> FREE       by the submitter, when its wait is done
 *
 * The queue's lock is a leaf: reserving slots, writing descriptors and moving the tail are one step, announced at the tail
 * register, which is all that hardware and other submitters can see of it. In a free run who waits helps the engine.
 */
import { lockLeaf, Op, peek, poke, silent, sleepWhile, unlockLeaf, Until } from '#hostmem/atomics';
import { label } from '#hostmem/labels';
import { Bits, Descriptor } from '../../hardware/vtd/descriptors.ts';
import { VtdRegisters } from '../../hardware/vtd/registers.ts';
import { assert } from '../../kernel/errno.ts';
import { InvalidationQueued, SubmitReturned, SubmitTimedOut } from '../events.ts';
import { AfterTimeOut, askAgain } from '../time-out.ts';
import type { Batch } from './batch.ts';
import { VtdUnitState } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

export const SlotStatus = { FREE: 0, IN_USE: 1, DONE: 2, ABORTED: 3 } as const;
/** In DONE and ABORTED, and in no other. */
const isOver = 2;
const statusMask = 3;
/** Of a wait that was dropped: where the requester is. */
export const sourceShift = 8;
const statusOf = (word: number): number => word & statusMask;

const statusLabel = label('VtdQueue.status');
/**
 * How often a waiter helps before it gives its core away for a moment: a device, or who carries the queue out, may have been descheduled.
 * As long as a sleep lasts at the least: the other is far more often in the middle of a step, and done in a microsecond.
 */
const helpsBeforeSleep = 500;
const momentMs = 0.05;

/**
 * Carries the batch out and returns when it is done: 0, or EINVAL when the unit refused a descriptor. Where a device did not answer all of it is submitted again, or
 * with ETIMEDOUT nothing is done (`afterTimeOut`); who called is not told in 7.2. `waitBits` are of the wait behind the batch: PD, QI_OPT_WAIT_DRAIN.
 */
export function submit(vtd: Vtd, unit: VtdUnit, batch: Batch, waitBits: number = 0): 0 | 'EINVAL' | 'ETIMEDOUT' {
  for (;;) {
    const first = enqueue(vtd, unit, batch, waitBits);
    const status = waitUntilDone(vtd, unit, (first + batch.length) % unit.ringLength);
    const refused = release(vtd, unit, first, batch.length + 1);
    const next = statusOf(status) === SlotStatus.DONE ? AfterTimeOut.DONE : vtd.operations.afterTimeOut(vtd, unit, status >>> sourceShift);
    if (next === AfterTimeOut.DONE) {
      SubmitReturned.emit(vtd.kernel, unit.number);
      return refused;
    }
    SubmitTimedOut.emit(vtd.kernel, unit.number, status >>> sourceShift);
    if (next === AfterTimeOut.GIVE_UP) return 'ETIMEDOUT';
  }
}

/** Of `qi_check_fault`. */
export function afterTimeOut(vtd: Vtd, unit: VtdUnit, sourceId: number): AfterTimeOut {
  return askAgain(vtd.kernel, unit.ref, sourceId);
}

/** Writes the batch and a wait behind it, and moves the tail; returns the first slot. The second half of a wide descriptor stays 0. */
export function enqueue(vtd: Vtd, unit: VtdUnit, batch: Batch, waitBits: number = 0): number {
  const { kernel, ram } = vtd;
  const { state, ringAt, tailAt, ringLength, descriptorBytes } = unit;
  if (kernel.control !== null) kernel.control.point(Op.STORE, kernel, tailAt, VtdRegisters.queueTail.label);
  lockWithRoom(vtd, unit, batch.length + 1);
  const first = VtdUnitState.queueFreeHead.peek(kernel, state);
  const end = (first + batch.length) % ringLength;
  for (let i = 0; i < batch.length; i++) {
    const at = ringAt + ((first + i) % ringLength) * descriptorBytes;
    for (let word = 0; word < 4; word++) poke(ram, at + word * 4, batch.word(i, word));
    poke(ram, unit.statusAt + ((first + i) % ringLength) * 4, SlotStatus.IN_USE);
    InvalidationQueued.emit(kernel, unit.number, (first + i) % ringLength, batch.word(i, 0), batch.word(i, 1), batch.word(i, 2));
  }
  InvalidationQueued.emit(kernel, unit.number, end, Descriptor.WAIT | waitBits);
  writeWait(vtd, ringAt + end * descriptorBytes, unit.statusAt + end * 4, waitBits);
  VtdUnitState.queueFreeHead.poke(kernel, state, (end + 1) % ringLength);
  VtdUnitState.queueFree.poke(kernel, state, VtdUnitState.queueFree.peek(kernel, state) - batch.length - 1);
  silent.release(kernel, tailAt, ((end + 1) % ringLength) * descriptorBytes);
  if (kernel.control !== null) kernel.control.saw(end);
  unlockLeaf(kernel, unit.lockAt);
  return first;
}

/** One slot is kept free beside what is taken: a full ring would look empty. */
function lockWithRoom(vtd: Vtd, unit: VtdUnit, slots: number): void {
  const kernel = vtd.kernel;
  const lock = unit.lockAt;
  lockLeaf(kernel, lock);
  while (VtdUnitState.queueFree.peek(kernel, unit.state) < slots + 1) {
    assert(kernel.control === null, `a controlled run has so few actors that a ring of ${unit.ringLength} descriptors has room for all`);
    unlockLeaf(kernel, lock);
    unit.queue.help();
    lockLeaf(kernel, lock);
  }
}

function writeWait(vtd: Vtd, at: number, status: number, waitBits: number): void {
  const ram = vtd.ram;
  poke(ram, at, Descriptor.WAIT | Bits.waitStatusWrite | waitBits);
  poke(ram, at + 4, SlotStatus.DONE);
  poke(ram, at + 8, status);
  poke(ram, at + 12, 0);
  poke(ram, status, SlotStatus.IN_USE);
}

/** The status word of the wait. */
function waitUntilDone(vtd: Vtd, unit: VtdUnit, slot: number): number {
  const ram = vtd.ram;
  const at = unit.statusAt + slot * 4;
  if (ram.control !== null) {
    ram.control.pointWhen(Op.WAIT, ram, at, statusLabel, isOver, Until.EQUAL, isOver);
    ram.control.saw(peek(ram, at));
    return peek(ram, at);
  }
  for (let helps = 0; (silent.read(ram, at) & isOver) === 0; helps++) {
    unit.queue.help();
    if (unit.faultHandler.ready()) unit.faultHandler.step();
    else if (helps > helpsBeforeSleep) sleepWhile(ram, at, SlotStatus.IN_USE, momentMs);
  }
  return silent.read(ram, at);
}

/** Frees the slots, and moves the free tail over all that are free in a row: waits may be over in any order. */
function release(vtd: Vtd, unit: VtdUnit, first: number, slots: number): 0 | 'EINVAL' {
  const { kernel, ram } = vtd;
  const { state, ringLength } = unit;
  let aborted = false;
  lockLeaf(kernel, unit.lockAt);
  for (let i = 0; i < slots; i++) {
    const at = unit.statusAt + ((first + i) % ringLength) * 4;
    if (statusOf(peek(ram, at)) === SlotStatus.ABORTED) aborted = true;
    poke(ram, at, SlotStatus.FREE);
  }
  let tail = VtdUnitState.queueFreeTail.peek(kernel, state);
  let free = VtdUnitState.queueFree.peek(kernel, state);
  for (; free < ringLength && peek(ram, unit.statusAt + tail * 4) === SlotStatus.FREE; free++) tail = (tail + 1) % ringLength;
  VtdUnitState.queueFreeTail.poke(kernel, state, tail);
  VtdUnitState.queueFree.poke(kernel, state, free);
  unlockLeaf(kernel, unit.lockAt);
  return aborted ? 'EINVAL' : 0;
}
