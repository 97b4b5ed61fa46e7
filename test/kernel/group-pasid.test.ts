/** PASIDs in the core: who is asked first, what is refused, and what a reset and an owner make of them. */
import type { Ref } from '#hostmem/object';
import type { IommuDriver } from '#src/drivers/driver';
import { PciFunction } from '#src/hardware/function';
import { finishReset, prepareReset } from '#src/kernel/device-reset';
import { HwptFlag } from '#src/kernel/hwpt';
import { ioctl } from '#src/kernel/syscalls';
import { VfioFlag } from '#src/kernel/vfio';
import { World, type WorldOptions } from '#src/world';
import { expect, test, vi } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

const iova = 0x1000;

/** A and B are a group of a VMM, with two HWPTs for PASIDs on IOASes that read as 1 and 2. */
function setUp(options: Partial<WorldOptions> = {}) {
  const vmm = new Vmm(new World({ iommu: 'vtd-scalable', pasids: true, ...options }));
  const { world } = vmm;
  const group = world.group('A', 'B');
  const fd = vmm.iommufd();
  const [device, mate] = group.vfio.map((number) => vmm.process.bound(number, fd)) as [{ fd: number; deviceId: number }, { fd: number; deviceId: number }];
  const hwpts = [1, 2].map((tag) => {
    const ioas = vmm.ioas(fd);
    vmm.map(fd, ioas, iova, vmm.process.memory(page, tag));
    return vmm.process.hwpt(fd, device.deviceId, ioas, HwptFlag.PASID);
  }) as [number, number];
  const functionOf = (name: string) => world.directory[name] as Ref<'PciFunction'>;
  const call = (command: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT' | 'VFIO_DEVICE_DETACH_IOMMUFD_PT', pasid: number, ptId: number) => {
    vmm.enter();
    return errnoOf(() => ioctl(world.kernel, device.fd, command, { argsz: 16, flags: VfioFlag.PASID, ptId, pasid }));
  };
  return {
    vmm, world, fd, device, mate, hwpts, functionOf,
    attach: (pasid: number, ptId: number) => call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', pasid, ptId),
    detach: (pasid: number) => call('VFIO_DEVICE_DETACH_IOMMUFD_PT', pasid, 0),
    /** What a function reads with the PASID, or 0 where it faults. */
    found: (name: string, pasid: number) => {
      const dma = vmm.dma(name);
      return dma.read(0, iova, 64, 0, pasid) === 0 ? dma.bufferWord(0) : 0;
    },
  };
}

test('a PASID that one member of the group does not have is refused before any member is set', () => {
  const { world, hwpts, functionOf, attach, found } = setUp();
  const narrow = functionOf('B');
  PciFunction.pasids.poke(world.host.kernel, narrow, 4);
  const set = vi.spyOn(world.kernel.driver as Required<IommuDriver>, 'setPasid');
  expect([attach(4, hwpts[0]), set.mock.calls.length]).toEqual(['EINVAL', 0]);
  expect([attach(3, hwpts[0]), found('A', 3), found('B', 3)]).toEqual([null, 1, 1]);
});

test.each([
  ['amd', 'EOPNOTSUPP', 'EINVAL'],
  ['riscv', 'EOPNOTSUPP', 'EINVAL'],
  ['smmuv3', null, 'EOPNOTSUPP'],
] as const)('%s sets no PASIDs: of an HWPT for them its driver says %s, the kernel of an attach %s, and nothing is left', (iommu, made, attached) => {
  const vmm = new Vmm(new World({ iommu }));
  const fd = vmm.iommufd();
  const device = vmm.process.bound(vmm.world.group('A').vfio[0]!, fd);
  const ioas = vmm.ioas(fd);
  const before = vmm.ledger();
  const arg = { flags: HwptFlag.PASID, devId: device.deviceId, ptId: ioas, outHwptId: 0 };
  expect(vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', arg)).toBe(made);
  const ptId = made === null ? arg.outHwptId : vmm.process.hwpt(fd, device.deviceId, ioas);
  expect(vmm.ioctl(device.fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: VfioFlag.PASID, ptId, pasid: 5 })).toBe(attached);
  expect([vmm.destroy(fd, ptId), vmm.ledger()]).toEqual([null, before]);
});

test.each(['vtd-scalable', 'vtd-first-stage'] as const)('a reset parks all PASIDs of its function, none is attached or replaced meanwhile, and its end puts back what the group has: %s', (iommu) => {
  const { world, hwpts, functionOf, attach, detach, found } = setUp({ iommu, ats: true });
  const see = () => ['A', 'B'].map((name) => [5, 6].map((pasid) => found(name, pasid)));
  expect([attach(5, hwpts[0]), attach(6, hwpts[1]), see()]).toEqual([null, null, [[1, 2], [1, 2]]]);
  prepareReset(world.kernel, functionOf('A'));
  prepareReset(world.kernel, functionOf('A'));
  expect(see()).toEqual([[0, 0], [1, 2]]);
  expect([attach(7, hwpts[0]), attach(5, hwpts[1]), attach(5, hwpts[0])]).toEqual(['EBUSY', 'EBUSY', null]);
  finishReset(world.kernel, functionOf('A'));
  expect([see(), attach(7, hwpts[0])]).toEqual([[[0, 0], [1, 2]], 'EBUSY']);
  finishReset(world.kernel, functionOf('A'));
  expect([see(), attach(7, hwpts[0]), attach(5, hwpts[1]), see()]).toEqual([[[1, 2], [1, 2]], null, null, [[2, 2], [2, 2]]]);
  expect([detach(5), detach(6), detach(7), see()]).toEqual([null, null, null, [[0, 0], [0, 0]]]);
});

test('a PASID that is detached in the middle of a reset is not put back, and what it had can go', () => {
  const { vmm, world, fd, hwpts, functionOf, attach, detach, found } = setUp({ ats: true });
  const set = vi.spyOn(world.kernel.driver as Required<IommuDriver>, 'setPasid');
  for (const pasid of [5, 6]) attach(pasid, hwpts[0]);
  prepareReset(world.kernel, functionOf('A'));
  set.mockClear();
  expect([detach(5), set.mock.calls.map(([, pciFunction]) => pciFunction)]).toEqual([null, [functionOf('B')]]);
  finishReset(world.kernel, functionOf('A'));
  expect(['A', 'B'].map((name) => [5, 6].map((pasid) => found(name, pasid)))).toEqual([[0, 1], [0, 1]]);
  expect([detach(6), vmm.destroy(fd, hwpts[0])]).toEqual([null, null]);
});
