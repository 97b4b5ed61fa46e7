/** The vIOMMU of a guest with a virtual unit, of VT-d or of the mock IOMMU: what the guest's commands become, and what it is told. */
import { peek, poke } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import { Counters } from '#src/actors/counters';
import { layFirstStage, setLeaf } from '#src/actors/guest-first-stage';
import { guestAddress } from '#src/actors/guest-memory';
import { GuestIommu } from '#src/actors/guest-iommu';
import { Viommu } from '#src/actors/viommu';
import { MockGuestIommu } from '#src/actors/virtual-mock';
import { VtdQueue } from '#src/actors/virtual-queue';
import { GuestRing } from '#src/actors/guest-ring';
import { commandRing, firstStageGpa, guestDomainId, nestedFreeGpa, pasidEntryGpa, requestRing, statusGpa, WaitStatus, windowIova } from '#src/actors/virtual-vtd';
import { Machine } from '#src/hardware/machine';
import { askForPage } from '#src/hardware/page-requests';
import { Bits, Descriptor, PageAnswerBits, PasidCacheGranularity, PasidIotlbGranularity } from '#src/hardware/vtd/descriptors';
import { firstCacheWord } from '#src/drivers/mock/device';
import { driverInForce } from '#src/drivers/in-force';
import { HwptFlag } from '#src/kernel/hwpt';
import { handOnRequests } from '#src/kernel/iopf';
import { enableAts } from '#src/kernel/iommu-probe';
import { Kernel } from '#src/kernel/kernel';
import { linux72, type Operations } from '#src/kernel/operations';
import { testIoctl } from '#src/kernel/selftest/commands';
import { write } from '#src/kernel/syscalls';
import { World } from '#src/world';
import { expect, test } from 'vitest';
import { errnoOf } from '../kernel/vmm.ts';

const page = 4096;

function setUp(operations: Operations = linux72) {
  const w = new World({ iommu: 'vtd-nested', ats: true, pageRequests: true });
  const vmm = w.guest('vm', 20);
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  vmm.map(iommufd, ioas, 0, BigInt(w.directory['vm.memory']!), 20 * page);
  const frames = w.directory['vm.frames'] as Ref<'Run'>;
  layFirstStage(w.host, frames);
  for (let i = 0; i < 3; i++) setLeaf(w.host, frames, windowIova + i * page, nestedFreeGpa + i * page);
  const { fd, deviceId } = vmm.bound(w.group('nic').vfio[0]!, iommufd);
  const { faultId, faultFd } = vmm.faultQueue(iommufd);
  const parent = vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT);
  const nested = vmm.nestedHwpt(iommufd, deviceId, parent, firstStageGpa, faultId);
  vmm.attach(fd, nested);
  const nic = w.directory['nic'] as Ref<'PciFunction'>;
  enableAts(w.kernel, nic);
  const machine = new Machine(w.host);
  const kernel = new Kernel(w.host, operations, driverInForce(w.host, machine));
  const seat = { name: 'viommu', host: w.host, kernel, counters: new Counters(Counters.createBuffer(1), 0), pace: null, seed: 1, directory: w.directory };
  const viommu = new Viommu(seat, 'vm');
  const at = (gpa: number): number => guestAddress(viommu, 'vm', gpa);
  const engine = machine.dma(nic);
  const commands = new GuestRing(viommu, 'vm', commandRing);
  return {
    w, kernel, viommu, at, nic, frames, to: { iommufd, nested, faultFd }, tables: { fd, deviceId, parent }, iommu: new GuestIommu(viommu, 'vm'),
    reach: (i: number) => engine.read(0, windowIova + i * page, 64) === 0,
    queue: (first: number, second: number, third: number, fourth: number) => commands.push(first, second, third, fourth),
    status: () => WaitStatus.word.load(w.host.ram, at(statusGpa)),
  };
}

const invalidate = (granularity: number): number => Descriptor.PASID_IOTLB | (granularity << Bits.granularityShift) | (guestDomainId << Bits.domainShift);
const wait = Descriptor.WAIT | Bits.waitStatusWrite;

test('a page-selective invalidation reaches the host under its own names, before the wait\'s status is written', () => {
  const { w, frames, viommu, to, reach, queue, status } = setUp();
  expect([0, 1, 2].map(reach)).toEqual([true, true, true]);
  for (const i of [0, 1, 2]) setLeaf(w.host, frames, windowIova + i * page, null);
  queue(invalidate(PasidIotlbGranularity.SELECTED), 0, windowIova + page, 0);
  queue(wait, 7, statusGpa, 0);
  viommu.serveVtd(to, 1);
  expect([status(), ...[0, 1, 2].map(reach)]).toEqual([7, true, false, true]);
  queue(invalidate(PasidIotlbGranularity.SELECTED), 0, windowIova | 1, 0);
  queue(invalidate(PasidIotlbGranularity.SELECTED), 0, windowIova + 2 * page, 0);
  queue(wait, 8, statusGpa, 0);
  viommu.serveVtd(to, 1);
  expect([status(), ...[0, 1, 2].map(reach)]).toEqual([8, false, false, false]);
});

test('an invalidation of a whole PASID drops all that the guest had mapped; a wait alone drops nothing', () => {
  const { w, frames, viommu, to, reach, queue, status } = setUp();
  expect([0, 1].map(reach)).toEqual([true, true]);
  for (const i of [0, 1]) setLeaf(w.host, frames, windowIova + i * page, null);
  queue(wait, 1, statusGpa, 0);
  viommu.serveVtd(to, 1);
  expect([status(), ...[0, 1].map(reach)]).toEqual([1, true, true]);
  queue(invalidate(PasidIotlbGranularity.PASID), 0, 0, 0);
  queue(wait, 2, statusGpa, 0);
  viommu.serveVtd(to, 1);
  expect([status(), ...[0, 1].map(reach)]).toEqual([2, false, false]);
});

test('what the vIOMMU does at a wait is the operation that a variant may replace', () => {
  const order: string[] = [];
  const finishWait: Operations['viommu']['finishWait'] = (server) => {
    order.push(`status ${all.status()} before`);
    server.complete();
    order.push(`status ${all.status()}, reached ${all.reach(0)}`);
    server.forward();
  };
  const all = setUp({ ...linux72, viommu: { ...linux72.viommu, finishWait } });
  expect(all.reach(0)).toBe(true);
  setLeaf(all.w.host, all.frames, windowIova, null);
  all.queue(invalidate(PasidIotlbGranularity.SELECTED), 0, windowIova, 0);
  all.queue(wait, 3, statusGpa, 0);
  all.viommu.serveVtd(all.to, 1);
  expect([...order, all.reach(0)]).toEqual(['status 0 before', 'status 3, reached true', false]);
});

test('a device\'s page request lies in the guest\'s queue by its address and group, and the guest\'s answer goes back to the device', () => {
  const { w, kernel, viommu, to, nic, iommu, queue, at } = setUp();
  const virtual = new VtdQueue(viommu, 'vm', to);
  const group = askForPage(w.host.kernel, nic, null, windowIova / page + 5, 1);
  handOnRequests(kernel, nic);
  expect(iommu.takeRequest()).toBeNull();
  queue(wait, 1, statusGpa, 0);
  virtual.serve(1);
  const slot = at(requestRing.slotsGpa);
  expect([peek(w.host.ram, slot) & 0xff, peek(w.host.ram, slot + 8) & 7]).toEqual([1, 5]);
  expect(iommu.takeRequest()).toEqual({ iova: windowIova + 5 * page, group });
  expect(iommu.takeRequest()).toBeNull();
  queue(Descriptor.PAGE_ANSWER, 0, group << PageAnswerBits.groupShift, 0);
  queue(wait, 2, statusGpa, 0);
  virtual.serve(1);
  // The kernel has passed it on: it knows no such cookie any more.
  expect(errnoOf(() => write(kernel, to.faultFd, new Uint8Array(Uint32Array.of(1, 0).buffer)))).toBe('EINVAL');
});

test('a guest that changes its PASID entry has its device moved to the tables that this names, and back; its invalidations are of those', () => {
  const { w, frames, viommu, to, reach, queue, status, at, tables } = setUp();
  const otherGpa = nestedFreeGpa + 3 * page;
  layFirstStage(w.host, frames, otherGpa);
  setLeaf(w.host, frames, windowIova + 2 * page, nestedFreeGpa, otherGpa);
  const virtual = new VtdQueue(viommu, 'vm', { ...to, tables });
  const enter = (rootGpa: number, value: number): boolean[] => {
    poke(w.host.ram, at(pasidEntryGpa) + 16, rootGpa);
    queue(Descriptor.PASID_CACHE | (PasidCacheGranularity.PASID << Bits.granularityShift), 0, 0, 0);
    queue(wait, value, statusGpa, 0);
    virtual.serve(1);
    expect(status()).toBe(value);
    return [0, 1, 2].map(reach);
  };
  expect([0, 1, 2].map(reach)).toEqual([true, true, true]);
  expect(enter(otherGpa, 1)).toEqual([false, false, true]);
  setLeaf(w.host, frames, windowIova + 2 * page, null, otherGpa);
  queue(invalidate(PasidIotlbGranularity.SELECTED), 0, windowIova + 2 * page, 0);
  queue(wait, 2, statusGpa, 0);
  virtual.serve(1);
  expect(reach(2)).toBe(false);
  expect(enter(firstStageGpa, 3)).toEqual([true, true, true]);
});

test('a descriptor that the virtual unit does not have is the guest\'s mistake, and told as one', () => {
  const { viommu, to, queue } = setUp();
  queue(Descriptor.DEVICE_TLB, 0, 0, 0);
  expect(() => viommu.serveVtd(to, 1)).toThrow('the guest queued a descriptor of type 3');
  const other = setUp();
  other.queue(Descriptor.PAGE_ANSWER, 0, 9 << PageAnswerBits.groupShift, 0);
  expect(() => other.viommu.serveVtd(other.to, 1)).toThrow('the guest answers group 9, which nobody asked for');
});

/** A guest whose device goes through a vIOMMU of the mock IOMMU, with a queue of one event. */
function setUpMock() {
  const w = new World({ iommu: 'mock' });
  const vmm = w.guest('vm', 8);
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  const device = vmm.mockDevice(iommufd, ioas);
  const viommu = vmm.viommu(iommufd, device.deviceId, vmm.hwpt(iommufd, device.deviceId, ioas, HwptFlag.NEST_PARENT));
  vmm.mockGuestDevice(iommufd, device, viommu, 0x18);
  const to = { iommufd, viommu, eventFd: vmm.eventQueue(iommufd, viommu, 1) };
  w.kernel.enter(vmm.ref);
  const seat = { name: 'viommu', host: w.host, kernel: w.kernel, counters: new Counters(Counters.createBuffer(1), 0), pace: null, seed: 1, directory: w.directory };
  const actor = new Viommu(seat, 'vm');
  return { kernel: w.kernel, actor, to, deviceId: device.deviceId, commands: new GuestRing(actor, 'vm', commandRing), guest: new MockGuestIommu(actor, 'vm') };
}

test('on the mock IOMMU the guest\'s number of a device and the word of its cache reach the kernel', () => {
  const { kernel, actor, to, deviceId, commands } = setUpMock();
  const holds = (cacheId: number, cache: number) => errnoOf(() => testIoctl(kernel, to.iommufd, 'IOMMU_TEST_DEV_CHECK_CACHE', { id: deviceId, cacheId, cache })) === null;
  expect([holds(1, 0), holds(1, firstCacheWord)]).toEqual([false, true]);
  commands.push(1, 0x18, 1, 0);
  commands.push(wait, 1, statusGpa, 0);
  actor.serveMock(to, 1);
  expect([holds(1, 0), holds(0, firstCacheWord)]).toEqual([true, true]);
  commands.push(1, 0x19, 1, 0);
  commands.push(wait, 2, statusGpa, 0);
  expect(() => actor.serveMock(to, 1)).toThrow('an invalidation of the guest ended with EINVAL');
});

test('the guest is told of the events that its vIOMMU\'s queue has kept, and not of those that were lost', () => {
  const { kernel, actor, to, deviceId, commands, guest } = setUpMock();
  for (let i = 0; i < 3; i++) testIoctl(kernel, to.iommufd, 'IOMMU_TEST_TRIGGER_VEVENT', { deviceId });
  commands.push(wait, 1, statusGpa, 0);
  actor.serveMock(to, 1);
  expect([guest.takeEvent(), guest.takeEvent()]).toEqual([0x18, null]);
  testIoctl(kernel, to.iommufd, 'IOMMU_TEST_TRIGGER_VEVENT', { deviceId });
  commands.push(wait, 2, statusGpa, 0);
  actor.serveMock(to, 1);
  expect([guest.takeEvent(), guest.takeEvent()]).toEqual([0x18, null]);
});
