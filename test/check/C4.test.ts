import type { Memory } from '#hostmem/memory';
import { EntryWritten, EntryZeroed, FlushCalled, GuestCommands, InvalidationQueued, SubmitTimedOut } from '#src/drivers/events';
import { dma, DmaFlags, TableKind } from '#src/hardware/events';
import * as riscv from '#src/hardware/riscv/commands';
import { Cause } from '#src/hardware/riscv/cause';
import { Opcode } from '#src/hardware/smmuv3/commands';
import { Descriptor } from '#src/hardware/vtd/descriptors';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

type Step = 'entry' | 'zeroed' | 'time-out' | 'range' | 'nested IOTLB' | keyof typeof Descriptor;

function tell(memory: Memory, step: Step): void {
  if (step === 'entry') EntryWritten.emit(memory, TableKind.PASID, 0x28, 0, 0);
  else if (step === 'zeroed') EntryZeroed.emit(memory, TableKind.PASID, 0x28, 0);
  else if (step === 'time-out') SubmitTimedOut.emit(memory, 0, 0x28);
  else if (step === 'range') FlushCalled.emit(memory, 0x100, 0, 0, 1, 1);
  else if (step === 'nested IOTLB') InvalidationQueued.emit(memory, 0, 0, Descriptor.IOTLB | (7 << 16));
  else InvalidationQueued.emit(memory, 0, 0, Descriptor[step]);
}

async function play(...steps: Step[]): Promise<string | null> {
  const here = await court('C4');
  for (const step of steps) tell(here.vmm.world.host.kernel, step);
  return here.verdict()?.message ?? null;
}

test('holds: each sequence is in its order, one after the other', async () => {
  expect(await play('entry', 'PASID_CACHE', 'PASID_IOTLB', 'DEVICE_TLB', 'WAIT', 'zeroed', 'range', 'IOTLB', 'WAIT', 'DEVICE_TLB', 'WAIT', 'range', 'IOTLB')).toBeNull();
});

test('holds: a domain that is known by two numbers has each of them forgotten by the IOTLB, then by devices', async () => {
  expect(await play('range', 'IOTLB', 'DEVICE_TLB', 'nested IOTLB', 'DEVICE_TLB', 'range', 'nested IOTLB', 'DEVICE_TLB', 'IOTLB', 'DEVICE_TLB')).toBeNull();
  expect(await play('range', 'IOTLB', 'DEVICE_TLB', 'nested IOTLB', 'DEVICE_TLB', 'nested IOTLB')).toBe('the IOTLB is invalidated after the device TLB');
});

test('holds: what a device did not answer is queued again, all of it', async () => {
  expect(await play('entry', 'PASID_CACHE', 'PASID_IOTLB', 'DEVICE_TLB', 'WAIT', 'time-out', 'PASID_CACHE', 'PASID_IOTLB', 'DEVICE_TLB', 'WAIT', 'zeroed')).toBeNull();
});

test.each<[string, Step[]]>([
  ['the IOTLB is invalidated after the device TLB', ['range', 'DEVICE_TLB', 'IOTLB']],
  ['the cache of entries is invalidated after the IOTLB', ['entry', 'IOTLB', 'WAIT', 'CONTEXT_CACHE']],
  ['a PASID entry is emptied, but the cache of entries was not invalidated since it was there', ['entry', 'IOTLB', 'zeroed']],
  ['a PASID entry is emptied, but the IOTLB was not invalidated since it was there', ['entry', 'PASID_CACHE', 'zeroed']],
  ['a PASID entry is emptied that was present until then', ['zeroed']],
])('breaks: %s', async (message, steps) => {
  expect(await play(...steps)).toBe(message);
});

test('breaks: a device asks for a translation that its entry does not let it ask for', async () => {
  const here = await court('C4');
  dma.emit(here.vmm.world.host.kernel, here.rid('A') | (0x44 << DmaFlags.reasonShift), 0, 0x1000, 0, 0, 1);
  expect(here.verdict()?.message).toBe('function 05.0 asked for a translation that its entry does not allow it to ask for');
});

/** On RISC-V, what is queued in a flush. */
const [iotlb, atc] = [riscv.invalidateVma, riscv.atsInvalidation(null)];
async function flushOnRiscv(...queued: readonly number[]): Promise<string | null> {
  const here = await court('C4', 1, { iommu: 'riscv', ats: true });
  const memory = here.vmm.world.host.kernel;
  FlushCalled.emit(memory, 0x100, 0, 0, 1);
  for (const first of queued) InvalidationQueued.emit(memory, 0, 0, first);
  return here.verdict()?.message ?? null;
}

test('of RISC-V: IOTLB, then devices; an answer to a page request is no step of it', async () => {
  expect(await flushOnRiscv(iotlb, riscv.fence, atc, riscv.fence, atc)).toBeNull();
  expect(await flushOnRiscv(riscv.pageAnswer(null), iotlb, atc)).toBeNull();
  expect(await flushOnRiscv(atc, iotlb)).toBe('the IOTLB is invalidated after the device TLB');
  expect(await flushOnRiscv(iotlb, atc, iotlb)).toBe('the IOTLB is invalidated after the device TLB');
});

test('holds: two units know a domain by one number, and each has its IOTLB, then its devices', async () => {
  const here = await court('C4');
  const memory = here.vmm.world.host.kernel;
  FlushCalled.emit(memory, 0x100, 0, 0, 1, 1);
  for (const unit of [0, 1]) for (const step of [Descriptor.IOTLB, Descriptor.DEVICE_TLB]) InvalidationQueued.emit(memory, unit, 0, step);
  expect(here.verdict()).toBeNull();
});

test('of RISC-V: cause 260 without a process is that of a device that may not use ATS', async () => {
  const here = await court('C4', 1, { iommu: 'riscv', ats: true });
  dma.emit(here.vmm.world.host.kernel, here.rid('A') | (Cause.TYPE_DISALLOWED << DmaFlags.reasonShift), 0, 0x1000, 0, 0, 1);
  expect(here.verdict()?.message).toBe('function 05.0 asked for a translation that its entry does not allow it to ask for');
});

test.each([[null, true], ['the cache of entries is invalidated after the IOTLB', false]] as const)('of SMMUv3: %s, the commands being a guest\'s or not', async (message, isGuests) => {
  const here = await court('C4', 1, { iommu: 'smmuv3' });
  const memory = here.vmm.world.host.kernel;
  EntryWritten.emit(memory, TableKind.STREAM, 0x28, 0, 1);
  if (isGuests) GuestCommands.emit(memory, 2);
  for (const opcode of [Opcode.TLBI_NH_ALL, Opcode.CFGI_CD_ALL]) InvalidationQueued.emit(memory, 0, 0, opcode);
  expect(here.verdict()?.message ?? null).toBe(message);
});
