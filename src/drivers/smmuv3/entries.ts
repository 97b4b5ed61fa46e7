/**
 * Stream-table entries and context descriptors, written by policy (`entry-stages.ts`; the kernel's `arm_smmu_write_entry`): hitless where what
 * hardware uses differs in one word, else not valid in between. The unit is told of each stage, and drained, before the next is written.
 *
 * From one stage-1 domain to another the descriptor changes in two words (ASID, TTB0), and the stream aborts in between; from one stage to the
 * other only the first word of the stream's entry decides, and it does not.
 */
import { peek, poke, write64 } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import * as commands from '../../hardware/smmuv3/commands.ts';
import * as descriptor from '../../hardware/smmuv3/context-descriptor.ts';
import { SmmuRegisters, StreamTableFormat } from '../../hardware/smmuv3/registers.ts';
import { streamEntryAt } from '../../hardware/smmuv3/streams.ts';
import * as stream from '../../hardware/smmuv3/stream-table.ts';
import type { StreamEntry } from '../../hardware/smmuv3/stream-table.ts';
import { IommuDevice } from '../driver.ts';
import { stagesOf, type WritePolicy } from '../entry-stages.ts';
import { EntryFound, EntryWritten } from '../events.ts';
import type { Smmu, SmmuMember } from './smmu.ts';
import { SmmuUnitState } from './unit-state.ts';

/** Entries of a table of the second level: four frames in a row. */
const leafEntries = 1 << stream.splitBits;
const leafFrames = (leafEntries * stream.entryBytes) / 4096;

/** The ids under which a function's requests reach the unit. */
export function streamIdsOf({ kernel }: Smmu, pciFunction: Ref<'PciFunction'>): number[] {
  const ids = [PciFunction.rid.peek(kernel, pciFunction), PciFunction.sourceId.peek(kernel, pciFunction)];
  return [...new Set(ids)];
}

/** Makes sure that a stream id has an entry, which aborts. False when RAM is used up, or the table has no such id. */
export function ensureStream(smmu: Smmu, { registers, state }: SmmuMember, streamId: number): boolean {
  const { kernel, ram, frames } = smmu;
  if (streamId >>> SmmuRegisters.streamBits.peek(kernel, registers) !== 0) return false;
  if (SmmuRegisters.streamTableFormat.peek(kernel, registers) === StreamTableFormat.LINEAR) return true;
  SmmuUnitState.entryLock.acquire(kernel, state);
  const at = hpaOf(SmmuRegisters.streamTable.peek(kernel, registers) as Frame) + (streamId >>> stream.splitBits) * 8;
  const missing = peek(ram, at) === 0;
  const table = missing ? frames.allocateRun(Owner.KERNEL, leafFrames, leafFrames) : 0;
  if (table !== 0) {
    abortAll(smmu, table as Frame, leafEntries);
    poke(ram, at, hpaOf(table as Frame) | stream.wholeSpan);
  }
  SmmuUnitState.entryLock.release(kernel, state);
  return !missing || table !== 0;
}

/** For who sets a table up. */
export function abortAll({ ram }: Pick<Smmu, 'ram'>, table: Frame, entries: number): void {
  for (let index = 0; index < entries; index++) poke(ram, hpaOf(table) + index * stream.entryBytes, stream.abortEntry[0]);
}

/** Which values a stream's entry goes through, by a policy of choice. */
export const streamStagesBy = (policy: WritePolicy, current: StreamEntry, target: StreamEntry): StreamEntry[] => stagesOf(policy, current, target, stream.usedBits);
/** What 7.2 does. */
export const streamStages = (current: StreamEntry, target: StreamEntry): StreamEntry[] => streamStagesBy('hitless', current, target);

/** Lets the streams of a function be as said; on return nothing uses what they were before. */
export function writeStreams(smmu: Smmu, unit: SmmuMember, device: Ref<'IommuDevice'>, target: StreamEntry): void {
  const { kernel, ram } = smmu;
  for (const streamId of streamIdsOf(smmu, IommuDevice.function.peek(kernel, device))) {
    SmmuUnitState.entryLock.acquire(kernel, unit.state);
    const at = streamEntryAt(kernel, ram, unit.registers, streamId);
    const current = readStream(smmu, at);
    EntryFound.emit(kernel, TableKind.STREAM, streamId, 0, ...stream.inUse(current));
    for (const stage of smmu.operations.streamStages(current, target)) {
      if (isSame(stage, readStream(smmu, at))) continue;
      EntryWritten.emit(kernel, TableKind.STREAM, streamId, 0, ...stream.inUse(stage));
      stage.forEach((low, word) => writeWord(smmu, at + word * 8, stream.upperWord(word, low), low, stream.entryLabels[word]!));
      unit.submitter.push(commands.invalidateStream(streamId)).submit();
    }
    SmmuUnitState.entryLock.release(kernel, unit.state);
  }
}

/** Frame of the descriptor that all streams of a function share. */
export const descriptorsOf = ({ kernel }: Smmu, device: Ref<'IommuDevice'>): Frame => IommuDevice.pasidDirectory.peek(kernel, device) as Frame;

/** The same for the descriptor of a function's stage 1. */
export function writeDescriptor(smmu: Smmu, unit: SmmuMember, device: Ref<'IommuDevice'>, target: descriptor.Descriptor): void {
  const { kernel } = smmu;
  const at = hpaOf(descriptorsOf(smmu, device));
  const streamIds = streamIdsOf(smmu, IommuDevice.function.peek(kernel, device));
  SmmuUnitState.entryLock.acquire(kernel, unit.state);
  const current = readDescriptor(smmu, at);
  const tell = (event: typeof EntryFound, value: descriptor.Descriptor): void => streamIds.forEach((id) => event.emit(kernel, TableKind.CONTEXT_DESCRIPTOR, id, 0, ...value));
  if ((current[0] & descriptor.valid) !== 0) tell(EntryFound, current);
  for (const stage of stagesOf('hitless', current, target, descriptor.usedBits, descriptor.valid)) {
    if (isSame(stage, readDescriptor(smmu, at))) continue;
    tell(EntryWritten, stage);
    // The first quadword has the valid bit: last where one appears, and first where it goes.
    const isValid = (stage[0] & descriptor.valid) !== 0;
    if (isValid) writeWord(smmu, at + 8, 0, stage[2], descriptor.descriptorLabels[1]!);
    writeWord(smmu, at, stage[1], stage[0], descriptor.descriptorLabels[0]!);
    if (!isValid) writeWord(smmu, at + 8, 0, stage[2], descriptor.descriptorLabels[1]!);
    for (const streamId of streamIds) unit.submitter.push(commands.invalidateDescriptor(streamId));
    unit.submitter.submit();
  }
  SmmuUnitState.entryLock.release(kernel, unit.state);
}

/** Silent: who changes entries holds `entryLock`. */
const readStream = ({ ram }: Smmu, at: number): StreamEntry => [peek(ram, at), peek(ram, at + 8), peek(ram, at + 16), peek(ram, at + 24)];
const readDescriptor = ({ ram }: Smmu, at: number): descriptor.Descriptor => [peek(ram, at), peek(ram, at + 4), peek(ram, at + 8)];
const isSame = (one: readonly number[], other: readonly number[]): boolean => one.every((word, index) => word === other[index]);

/** One quadword, which is one point. One that stays as it is is not written. */
function writeWord({ ram }: Smmu, at: number, high: number, low: number, label: number): void {
  if (peek(ram, at) !== low || peek(ram, at + 4) !== high) write64(ram, at, high, low, label);
}
