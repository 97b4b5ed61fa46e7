/** How a command of /dev/iommu is read and answered, whatever it does. */
import { ioctlUnknown, type IommufdCommands } from '#src/kernel/syscalls';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

test.each<[keyof IommufdCommands, number]>([
  ['IOMMU_DESTROY', 8], ['IOMMU_IOAS_ALLOC', 12], ['IOMMU_IOAS_ALLOW_IOVAS', 24], ['IOMMU_IOAS_COPY', 40], ['IOMMU_IOAS_IOVA_RANGES', 32],
  ['IOMMU_IOAS_MAP', 40], ['IOMMU_IOAS_UNMAP', 24], ['IOMMU_OPTION', 24], ['IOMMU_VFIO_IOAS', 12], ['IOMMU_HWPT_ALLOC', 24], ['IOMMU_GET_HW_INFO', 32],
  ['IOMMU_HWPT_INVALIDATE', 32], ['IOMMU_FAULT_QUEUE_ALLOC', 16], ['IOMMU_VIOMMU_ALLOC', 24], ['IOMMU_VDEVICE_ALLOC', 24],
  ['IOMMU_IOAS_CHANGE_PROCESS', 8], ['IOMMU_VEVENTQ_ALLOC', 32], ['IOMMU_HW_QUEUE_ALLOC', 40],
])('%s: one byte less than %i is EINVAL, an unknown byte that is set E2BIG, no argument EFAULT, before anything is looked at', (command, smallest) => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  const call = (sized: object) => vmm.ioctl(fd, command, sized as IommufdCommands[typeof command]);
  expect(call({ size: smallest - 1 })).toBe('EINVAL');
  expect(call({ size: 4096, nonzeroTail: true })).toBe('E2BIG');
  expect(call({ argument: 'absent' })).toBe('EFAULT');
});

test('what a smaller struct leaves out reads as 0 and is not written', () => {
  const vmm = new Vmm();
  const group = vmm.world.group('A');
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  vmm.process.bind(group.vfio[0]!, fd);
  const arg = { size: 24, flags: 0, devId: 2, ptId: ioas, dataType: 5, dataLength: 9, outHwptId: 0 };
  expect(vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', arg)).toBeNull();
  expect(arg).toMatchObject({ dataType: 5, dataLength: 9, outHwptId: 3 });
  const info = { size: 32, flags: 0, devId: 2, dataLength: 0, dataType: 0, outMaxPasidLog2: 0, outCapabilities: 77n };
  expect(vmm.ioctl(fd, 'IOMMU_GET_HW_INFO', info)).toBeNull();
  expect(info).toMatchObject({ dataType: 1, outCapabilities: 77n });
});

test('an id whose answer cannot be written is free again, and nothing is left of the object', () => {
  const vmm = new Vmm();
  const group = vmm.world.group('A');
  const fd = vmm.iommufd();
  const ioasId = vmm.ioas(fd);
  vmm.map(fd, ioasId, 0x1000, vmm.process.memory(page));
  vmm.process.bind(group.vfio[0]!, fd);
  const before = vmm.ledger();
  const argument = 'read-only';
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_ALLOC', { argument, flags: 0, outIoasId: 0 })).toBe('EFAULT');
  expect(vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', { argument, flags: 0, devId: 2, ptId: ioasId, outHwptId: 0 })).toBe('EFAULT');
  expect(vmm.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', { argument, flags: 0, outFaultId: 0, outFaultFd: 0 })).toBe('EFAULT');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.ioas(fd)).toBe(3);
});

test('a mapping whose iova cannot be told stays mapped', () => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  const ioasId = vmm.ioas(fd);
  const arg = { argument: 'read-only', flags: 7, ioasId, userVa: vmm.process.memory(page), length: 4096n, iova: 0x1000n } as const;
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_MAP', arg)).toBe('EFAULT');
  expect(vmm.unmap(fd, ioasId, 0x1000, page)).toBe(4096n);
});

test.each<[string, number, object, string]>([
  ['a number of the table in another word, without an argument', 0xc0083b80, { argument: 'absent' }, 'EFAULT'],
  ['a number of the table in another word', 0xc0083b80, {}, 'ENOTTY'],
  ['a number that nobody has, without an argument', 0x3b7f, { argument: 'absent' }, 'ENOTTY'],
])('%s: 0x%s', (_, word, arg, errno) => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  expect(errnoOf(() => ioctlUnknown(vmm.world.kernel, fd, word, arg))).toBe(errno);
});
