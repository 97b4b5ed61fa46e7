import { expect, test } from 'vitest';
import type { Frame } from '#hostmem/memory';
import { runGet, runSet } from '#hostmem/run';
import { UnmapReturned } from '#src/kernel/events';
import { Ioas } from '#src/kernel/ioas';
import { Area } from '#src/kernel/iopt-area';
import { Pages } from '#src/kernel/pages';
import { Process } from '#src/kernel/process';
import { testIoctl } from '#src/kernel/selftest/commands';
import { page } from '../kernel/vmm.ts';
import { attachedGroup, virtualised } from './state.ts';

/** The one area that the group's IOAS has, and its pages. */
async function setUp() {
  const all = await attachedGroup('P3');
  const { memory, ioas } = all;
  const node = Ioas.areas.first(memory, all.body<'Ioas'>(ioas[0]!), 0, 0, -1, -1);
  const area = Ioas.areas.value<'Area'>(memory, node);
  const pages = Area.transit.peek(memory, area);
  const frame = runGet(memory, Pages.frames.peek(memory, pages), 0) as Frame;
  return { ...all, area, pages, frame, frames: all.vmm.world.host.frames };
}

test('holds: shared by copies, two domains and an access, until the last of them lets go', async () => {
  const { vmm, fd, fds, ioas, devices, verdict } = await setUp();
  const { kernel } = vmm.world;
  vmm.map(fd, ioas[0]!, 0x10_0000, vmm.process.memory(4 * page), 4 * page);
  const access = vmm.process.access(fd, ioas[0]!);
  const pin = { fd: access, flags: 0, iova: 0x10_1000n, length: BigInt(2 * page), userVa: 0n, outAccessPagesId: 0 };
  const steps = [
    () => testIoctl(kernel, fd, 'IOMMU_TEST_ACCESS_PAGES', pin),
    () => vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 0, devId: devices[0]!, ptId: ioas[0]!, outHwptId: 0 }),
    () => vmm.ioctl(fd, 'IOMMU_IOAS_COPY', { flags: 7, dstIoasId: ioas[1]!, srcIoasId: ioas[0]!, length: BigInt(page), dstIova: 0x4000n, srcIova: 0x10_1000n }),
    () => fds.map((one) => vmm.detach(one)),
    () => testIoctl(kernel, fd, 'IOMMU_TEST_DESTROY_ACCESS_PAGES', { fd: access, accessPagesId: pin.outAccessPagesId }),
    () => vmm.unmap(fd, ioas[0]!, 0x10_0000, 4 * page),
  ];
  for (const step of steps) {
    vmm.enter();
    step();
    expect(verdict()).toBeNull();
  }
});

test('breaks: a frame is pinned once too often, or not as often as somebody has it', async () => {
  const { frames, frame, verdict } = await setUp();
  frames.pin(frame);
  expect(verdict()).toBe(`frame 0x${frame.toString(16)} is pinned 2 times, 1 sets of pages have it pinned`);
  frames.unpin(frame);
  frames.unpin(frame);
  expect(verdict()).toBe(`frame 0x${frame.toString(16)} is pinned 0 times, 1 sets of pages have it pinned`);
});

test('breaks: pages are counted more often than somebody has them, an area or an account is wrong', async () => {
  const { memory, vmm, pages, area, verdict, frame } = await setUp();
  const counts = Pages.frames.peek(memory, pages);
  runSet(memory, counts, 1, 2);
  expect(verdict()).toBe(`frame 0x${frame.toString(16)} is counted 2 times, 1 have it`);
  runSet(memory, counts, 1, 1);
  Area.accesses.poke(memory, area, 1);
  expect(verdict()).toBe('an area counts 1 pins of accesses and 0 of hardware queues, there are 0 and 0');
  Area.accesses.poke(memory, area, 0);
  Pages.references.poke(memory, pages, 2);
  expect(verdict()).toBe('pages have 2 references, 1 areas map them');
  Pages.references.poke(memory, pages, 1);
  Process.pinnedPages.poke(memory, vmm.process.ref, 3);
  expect(verdict()).toBe('process 1 pays for 3 pages, 1 are pinned for it');
});

test('hardware queues pin and lock every mapping that they lie in', async () => {
  const { vmm, memory, body, viommu, verdict } = await virtualised('P3');
  const va = vmm.process.memory(2 * page);
  const arg = { flags: 0, viommuId: viommu, type: 7, index: 0, nestingParentIova: 0x1800n, length: BigInt(page), outHwQueueId: 0 };
  const alloc = (index: number): unknown => (vmm.ioctl(vmm.fd, 'IOMMU_HW_QUEUE_ALLOC', Object.assign(arg, { index })), arg.outHwQueueId);
  for (const at of [0, page]) vmm.map(vmm.fd, vmm.ioasId, 0x1000 + at, va + BigInt(at));
  expect([alloc(0), verdict(), alloc(1), verdict()]).toEqual([viommu + 2, null, viommu + 4, null]);
  const node = Ioas.areas.first(memory, body<'Ioas'>(vmm.ioasId), 0, 0x2000, 0, 0x2000);
  const area = Ioas.areas.value<'Area'>(memory, node);
  Area.locks.poke(memory, area, 1);
  expect(verdict()).toBe('an area counts 2 pins of accesses and 1 of hardware queues, there are 2 and 2');
  Area.locks.poke(memory, area, 2);
  expect([vmm.destroy(vmm.fd, viommu + 4), verdict(), vmm.destroy(vmm.fd, viommu + 2), verdict()]).toEqual([null, null, null, null]);
});

test('during calls a frame may have more pins than are recorded, not fewer, but for pages that somebody is at', async () => {
  const { memory, here, pages, frames, frame } = await setUp();
  const look = () => {
    UnmapReturned.emit(memory, 1, 0, 0x1000, 1, 0, 1);
    return here.judge.moment(UnmapReturned.kind)?.invariant ?? null;
  };
  frames.pin(frame);
  expect(look()).toBeNull();
  frames.unpin(frame);
  frames.unpin(frame);
  expect(look()).toBe('P3');
  Pages.mutex.acquire(memory, pages);
  expect(look()).toBeNull();
});

test('breaks: a frame is unpinned that nobody has pinned', async () => {
  const { vmm, fd, ioas, frame, frames, here } = await setUp();
  frames.unpin(frame);
  expect(() => vmm.unmap(fd, ioas[0]!, 0x1000, page)).toThrow('more often than pinned');
  expect(here.judge.catchUp()).toMatchObject({ invariant: 'P3', message: `frame 0x${frame.toString(16)} is unpinned more often than pinned` });
});
