/**
 * The command buffer as software uses it (the kernel's `iommu_queue_command`, `iommu_completion_wait`): commands are queued by themselves, and
 * whoever has to know that they are done asks for a completion wait, which stores a number that grows by one each time.
 *
 * The buffer's lock is a leaf: writing a command and moving the tail are one step, announced at the tail.
 */
import { lockLeaf, Op, peek, poke, read, silent, sleepWhile, unlockLeaf, Until } from '#hostmem/atomics';
import { label } from '#hostmem/labels';
import * as commands from '../../hardware/amd/commands.ts';
import type { Command } from '../../hardware/amd/commands.ts';
import { UnitCommandRing, commandBytes, ringLength } from '../../hardware/command-engine.ts';
import { assert } from '../../kernel/errno.ts';
import { InvalidationQueued, SubmitReturned } from '../events.ts';
import type { Amd, AmdMember } from './amd.ts';
import { AmdUnitState } from './unit-state.ts';

const semaphoreLabel = label('AmdUnitState.semaphore');
/** How often a waiter helps before it gives its core away for a moment: a device may have been descheduled in mid-transfer. */
const helpsBeforeSleep = 20;
const momentMs = 0.05;

/** Lies in the buffer from here on; a completion wait has to follow. */
export function queueCommand(amd: Amd, unit: AmdMember, command: Command): void {
  lockBuffer(amd, unit);
  write(amd, unit, command);
  AmdUnitState.needSync.poke(amd.kernel, unit.state, 1);
  unlockLeaf(amd.kernel, unit.lockAt);
}

/**
 * Returns when every command that was queued before is done and the DMA that was in flight then has ended. Where another's wait lies behind
 * them already, that one is waited for: without a command of its own, but not without waiting (CVE-2026-68329).
 */
export function completionWait(amd: Amd, unit: AmdMember): void {
  lockBuffer(amd, unit);
  const sequence = needsWait(amd, unit) ? queueWait(amd, unit) : AmdUnitState.sequence.peek(amd.kernel, unit.state);
  unlockLeaf(amd.kernel, unit.lockAt);
  waitFor(amd, unit, sequence);
  SubmitReturned.emit(amd.kernel, unit.number);
}

/** Whether a command lies in the buffer that no wait is behind. The caller has the lock, or is wrong. */
export const needsWait = ({ kernel }: Amd, unit: AmdMember): boolean => AmdUnitState.needSync.peek(kernel, unit.state) !== 0;

/** The caller has the lock: so numbers are stored in the order in which they were taken. */
function queueWait(amd: Amd, unit: AmdMember): number {
  const sequence = (AmdUnitState.sequence.peek(amd.kernel, unit.state) + 1) | 0;
  AmdUnitState.sequence.poke(amd.kernel, unit.state, sequence);
  write(amd, unit, commands.completionWait(unit.semaphoreAt, sequence));
  AmdUnitState.needSync.poke(amd.kernel, unit.state, 0);
  return sequence;
}

/** Announces a change of the buffer, and locks it when there is room for two commands. One slot is kept free: a full ring would look empty. */
function lockBuffer({ kernel }: Amd, unit: AmdMember): void {
  if (kernel.control !== null) kernel.control.point(Op.STORE, kernel, unit.tailAt, UnitCommandRing.tail.label);
  lockLeaf(kernel, unit.lockAt);
  while ((silent.load(kernel, unit.headAt) - peek(kernel, unit.tailAt) - 2 + 2 * ringLength) % ringLength < 2) {
    assert(kernel.control === null, `a controlled run has so few actors that ${ringLength} commands have room`);
    unlockLeaf(kernel, unit.lockAt);
    unit.queue.help();
    lockLeaf(kernel, unit.lockAt);
  }
}

function write({ kernel, ram }: Amd, unit: AmdMember, command: Command): void {
  const slot = peek(kernel, unit.tailAt);
  for (let word = 0; word < 4; word++) poke(ram, unit.ringAt + slot * commandBytes + word * 4, command[word]!);
  InvalidationQueued.emit(kernel, unit.number, slot, command[0], command[1], command[2]);
  silent.store(kernel, unit.tailAt, (slot + 1) % ringLength);
  if (kernel.control !== null) kernel.control.saw(slot);
}

/** Until the semaphore has come so far (`wait_on_sem`). */
function waitFor({ ram }: Amd, unit: AmdMember, sequence: number): void {
  const at = unit.semaphoreAt;
  let seen = read(ram, at, semaphoreLabel);
  for (let helps = 0; ((seen - sequence) | 0) < 0; helps++) {
    if (ram.control !== null) ram.control.pointWhen(Op.WAIT, ram, at, semaphoreLabel, -1, Until.DIFFERENT, seen);
    else unit.queue.help();
    const now = silent.load(ram, at);
    if (ram.control !== null) ram.control.saw(now);
    else if (helps > helpsBeforeSleep) sleepWhile(ram, at, now, momentMs);
    seen = now;
  }
}
