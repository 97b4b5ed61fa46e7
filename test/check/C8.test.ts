import type { Ref } from '#hostmem/object';
import { InvalidationQueued } from '#src/drivers/events';
import * as riscv from '#src/hardware/riscv/commands';
import { Descriptor } from '#src/hardware/vtd/descriptors';
import { finishReset, prepareReset } from '#src/kernel/device-reset';
import { ResetEnds, ResetPrepared } from '#src/kernel/events';
import { IommuGroup, PciDevice } from '#src/kernel/iommu-group';
import { deviceOf, enableAts } from '#src/kernel/iommu-probe';
import { expect, test } from 'vitest';
import { page } from '../kernel/vmm.ts';
import { Driven } from './driven.ts';
import { court, countOf, type Court } from './histories.ts';

/** A device with ATS that has one page of an IOAS. */
async function setUp() {
  const here = await Driven.create({ ats: true }, {}, ['C8']);
  const { vmm, device } = here;
  const { kernel } = vmm.world;
  enableAts(kernel, device as Ref<'PciFunction'>);
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  vmm.map(fd, ioas, 0x1000, vmm.process.memory(page, 1));
  const vfio = vmm.process.bind(here.group.vfio[0]!, fd);
  vmm.attach(vfio, ioas);
  const member = deviceOf(kernel, device as Ref<'PciFunction'>);
  return { here, vmm, fd, ioas, vfio, kernel, device, member, message: () => here.verdict?.message ?? here.judge.quiescence()?.message ?? null };
}

test('holds: a device is asked before its reset and behind it, and for nothing in between', async () => {
  const { here, vmm, fd, ioas, kernel, device, message } = await setUp();
  prepareReset(kernel, device);
  vmm.unmap(fd, ioas, 0x1000, page);
  vmm.map(fd, ioas, 0x1000, vmm.process.memory(page, 2));
  finishReset(kernel, device);
  const asked = countOf(here.history, InvalidationQueued.kind);
  vmm.unmap(fd, ioas, 0x1000, page);
  expect(countOf(here.history, InvalidationQueued.kind)).toBeGreaterThan(asked);
  expect(message()).toBeNull();
});

test('breaks: a member is moved in the middle of its reset, and is asked to forget what it cannot have', async () => {
  const { vmm, fd, ioas, kernel, device, member, message } = await setUp();
  prepareReset(kernel, device);
  kernel.driver.attach(IommuGroup.domain.peek(kernel.memory, PciDevice.group.peek(kernel.memory, member)), device);
  vmm.unmap(fd, ioas, 0x1000, page);
  expect(message()).toBe('the device TLB of function 00:05.0 is invalidated while it is being reset');
});

/** Whether a command is a breach: between the two ends of A's reset, of another device's, and behind it. */
function told(here: Court, reset: string, ends: boolean, first: number, second: number): boolean {
  const { kernel } = here.vmm.world.host;
  ResetPrepared.emit(kernel, 1, here.rid(reset));
  if (ends) ResetEnds.emit(kernel, 1, here.rid(reset));
  InvalidationQueued.emit(kernel, 0, 0, first, second);
  return here.verdict() !== null;
}

test.each([
  ['vtd-scalable', 'a request without PASID', (rid: number) => [Descriptor.DEVICE_TLB, rid], true],
  ['vtd-scalable', 'a request with PASID', (rid: number) => [Descriptor.PASID_DEVICE_TLB | (rid << 16), 7], true],
  ['vtd-scalable', 'its context', (rid: number) => [Descriptor.CONTEXT_CACHE, rid], false],
  ['riscv', 'a request', (rid: number) => [riscv.atsInvalidation(null), riscv.toRequester(rid, null)], true],
  ['riscv', 'an answer to its page request', (rid: number) => [riscv.pageAnswer(null), riscv.toRequester(rid, null)], false],
] as const)('of %s: %s in the middle of the reset', async (iommu, _what, words, isBreach) => {
  const here = await court('C8', 1, { iommu, ats: true });
  const [first, second] = words(here.rid('A')) as [number, number];
  expect(told(here, 'A', false, first, second)).toBe(isBreach);
  for (const [reset, ends] of [['A', true], ['B', false]] as const) expect(told(await court('C8', 1, { iommu, ats: true }), reset, ends, first, second)).toBe(false);
});
