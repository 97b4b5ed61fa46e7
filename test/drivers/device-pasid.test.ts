/** PASIDs of VFIO reach hardware: what a request that carries one translates through. */
import type { Ref } from '#hostmem/object';
import { DomainFlags } from '#src/drivers/driver';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { PciFunction } from '#src/hardware/function';
import { Machine } from '#src/hardware/machine';
import { driverInForce } from '#src/drivers/in-force';
import { HwptFlag } from '#src/kernel/hwpt';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { ioctl } from '#src/kernel/syscalls';
import { VfioFlag } from '#src/kernel/vfio';
import { World, type WorldOptions } from '#src/world';
import { expect, test } from 'vitest';
import { errnoOf } from '../kernel/vmm.ts';

const iova = 0x10000000;
const page = 4096;
const modes = ['vtd-scalable', 'vtd-first-stage'] as const;

/** A group of one device (or more) whose owner has two HWPTs for PASIDs, on IOASes with a tag each. */
function setUp(options: Partial<WorldOptions>, names: readonly string[] = ['A']) {
  const w = new World({ pasids: true, ...options });
  const vmm = w.process('vmm');
  const iommufd = vmm.iommufd();
  const { vfio } = w.group(...names);
  const bound = vfio.map((number) => vmm.bound(number, iommufd));
  const ioases = [0x1111, 0x2222].map((tag) => {
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, iova, vmm.memory(page, tag), page);
    return ioas;
  });
  const hwpts = ioases.map((ioas) => vmm.hwpt(iommufd, bound[0]!.deviceId, ioas, HwptFlag.PASID));
  // As a thread that joins: what was plugged in is known by now.
  const machine = new Machine(w.host);
  const kernel = new Kernel(w.host, linux72, driverInForce(w.host, machine));
  kernel.enter(vmm.ref);
  const engines = names.map((name) => machine.dma(w.directory[name] as Ref<'PciFunction'>));
  const call = (command: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT' | 'VFIO_DEVICE_DETACH_IOMMUFD_PT', device: number, pasid: number, ptId = 0) =>
    errnoOf(() => ioctl(kernel, bound[device]!.fd, command, { argsz: 16, flags: VfioFlag.PASID, ptId, pasid }));
  return {
    w, kernel, vmm, iommufd, ioases, hwpts, engines,
    attachRid: (ptId: number) => errnoOf(() => ioctl(kernel, bound[0]!.fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId })),
    attach: (pasid: number, ptId: number, device = 0) => call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', device, pasid, ptId),
    detach: (pasid: number, device = 0) => call('VFIO_DEVICE_DETACH_IOMMUFD_PT', device, pasid),
  };
}

/** What a read with the PASID finds, or 0 when it faults. */
function found(dma: DmaEngine, pasid?: number): number {
  return dma.read(0, iova, 64, 0, pasid) === 0 ? dma.bufferWord(0) : 0;
}

test.each(modes)('a PASID goes through its own HWPT, whatever the RID and other PASIDs do: %s', (iommu) => {
  const { hwpts, engines: [dma], attachRid, attach, detach } = setUp({ iommu });
  expect([found(dma!, 5), found(dma!)]).toEqual([0, 0]);
  expect(attach(5, hwpts[0]!)).toBeNull();
  expect([found(dma!, 5), found(dma!, 6), found(dma!)]).toEqual([0x1111, 0, 0]);
  expect(attachRid(hwpts[1]!)).toBeNull();
  expect([found(dma!, 5), found(dma!)]).toEqual([0x1111, 0x2222]);
  expect(attach(5, hwpts[1]!)).toBeNull();
  expect([found(dma!, 5), found(dma!)]).toEqual([0x2222, 0x2222]);
  expect(detach(5)).toBeNull();
  expect([found(dma!, 5), found(dma!)]).toEqual([0, 0x2222]);
});

test.each(modes)('an unmap is over for every PASID and for the RID, with and without ATS: %s', (iommu) => {
  for (const ats of [false, true]) {
    const { kernel, iommufd, ioases, hwpts, engines: [dma], attachRid, attach } = setUp({ iommu, ats });
    if (ats) kernel.driver.enableAts!(dma!.function);
    expect(attachRid(hwpts[0]!)).toBeNull();
    for (const pasid of [5, 70]) attach(pasid, hwpts[0]!);
    expect([found(dma!), found(dma!, 5), found(dma!, 70)]).toEqual([0x1111, 0x1111, 0x1111]);
    ioctl(kernel, iommufd, 'IOMMU_IOAS_UNMAP', { ioasId: ioases[0]!, iova: BigInt(iova), length: BigInt(page) });
    expect([found(dma!), found(dma!, 5), found(dma!, 70)]).toEqual([0, 0, 0]);
  }
});

test('ATS that is switched on when PASIDs are attached keeps nothing that a detach leaves, and off keeps nothing at all', () => {
  const { kernel, hwpts, engines: [dma], attach, detach } = setUp({ iommu: 'vtd-first-stage', ats: true });
  for (const pasid of [5, 6]) attach(pasid, hwpts[0]!);
  kernel.driver.enableAts!(dma!.function);
  expect([found(dma!, 5), found(dma!, 6)]).toEqual([0x1111, 0x1111]);
  detach(5);
  expect([found(dma!, 5), found(dma!, 6)]).toEqual([0, 0x1111]);
  kernel.driver.disableAts!(dma!.function);
  attach(6, hwpts[1]!);
  kernel.driver.enableAts!(dma!.function);
  expect(found(dma!, 6)).toBe(0x2222);
});

test('every member of a group gets the PASID, a device of another group does not', () => {
  const { w, hwpts, engines: [first, second], attach } = setUp({ iommu: 'vtd-scalable' }, ['A', 'B']);
  w.group('L');
  const other = new Machine(w.host).dma(w.directory['L'] as Ref<'PciFunction'>);
  attach(5, hwpts[0]!);
  expect([found(first!, 5), found(second!, 5), found(other, 5)]).toEqual([0x1111, 0x1111, 0]);
});

test('a PASID beyond those of the device, and one on an HWPT that is not made for it, are EINVAL; nothing is reached', () => {
  const { vmm, iommufd, ioases, hwpts, engines: [dma], attach } = setUp({ iommu: 'vtd-scalable' });
  expect(attach(1 << 15, hwpts[0]!)).toBe('EINVAL');
  expect(attach(5, vmm.hwpt(iommufd, 1, ioases[0]!))).toBe('EINVAL');
  expect(found(dma!, 5)).toBe(0);
});

test('without the capability a PASID attach is bookkeeping, and the function has no PASIDs to name', () => {
  const { hwpts, engines: [dma], attach, w } = setUp({ iommu: 'vtd-scalable', pasids: false });
  expect(attach(5, hwpts[0]!)).toBeNull();
  expect(() => dma!.read(0, iova, 64, 0, 5)).toThrow('the function has 0 PASIDs');
  expect(PciFunction.pasids.peek(w.host.kernel, dma!.function)).toBe(0);
});

test('a domain has one id on a unit, however many PASIDs and requesters use it, until the last is gone', () => {
  const { kernel: { driver }, engines: [dma] } = setUp({ iommu: 'vtd-scalable' });
  const domains = [0, 1].map(() => driver.allocPagingDomain(dma!.function, DomainFlags.PASID));
  for (let round = 0; round < 3; round++) {
    for (const pasid of [5, 6]) expect(driver.setPasid!(domains[0]!, dma!.function, pasid)).toBe(0);
    expect(driver.setPasid!(domains[1]!, dma!.function, 6)).toBe(0);
    for (const pasid of [5, 6]) driver.setPasid!(driver.blockedDomain, dma!.function, pasid);
  }
  for (const domain of domains) driver.freeDomain(domain);
});
