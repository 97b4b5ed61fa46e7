import { expect, test } from 'vitest';
import { DestroyRefused } from '#src/kernel/events';
import { Iommufd, IommufdObject, Kind } from '#src/kernel/objects';
import { attachedGroup, virtualised } from './state.ts';

test('holds: objects of every kind, also where an id is a tombstone and where a call has failed', async () => {
  const { vmm, viommu, verdict } = await virtualised('O3');
  expect(verdict()).toBeNull();
  expect(vmm.ioctl(vmm.fd, 'IOMMU_FAULT_QUEUE_ALLOC', { flags: 0, outFaultId: 0, outFaultFd: 0 })).toBeNull();
  expect(vmm.ioctl(vmm.fd, 'IOMMU_FAULT_QUEUE_ALLOC', { flags: 0, outFaultId: 0, outFaultFd: 0, argument: 'read-only' })).toBe('EFAULT');
  expect(vmm.ioctl(vmm.fd, 'IOMMU_VEVENTQ_ALLOC', { flags: 0, viommuId: viommu, type: 1, depth: 1, outEventQueueId: 0, outEventQueueFd: 0 })).toBeNull();
  expect(verdict()).toBeNull();
  vmm.close(vmm.vfio);
  expect(verdict()).toBeNull();
});

test('breaks: an id is taken for nothing', async () => {
  const { memory, iommufd, verdict } = await attachedGroup('O3');
  const id = Iommufd.objects.reserve(memory, iommufd);
  expect(verdict()).toBe('1 ids are taken and name nothing, while nobody is inside a call');
  Iommufd.objects.erase(memory, iommufd, id);
  expect(verdict()).toBeNull();
});

test('breaks: an id names an object of another id, of another context, or one that is not finished', async () => {
  const { vmm, memory, object, verdict } = await attachedGroup('O3');
  const target = object(1);
  IommufdObject.id.poke(memory, target, 7);
  expect(verdict()).toBe('id 1 names IOAS 7');
  IommufdObject.id.poke(memory, target, 1);
  const other = Iommufd.create(vmm.world.host.kernel);
  const own = IommufdObject.iommufd.peek(memory, target);
  IommufdObject.iommufd.poke(memory, target, other);
  expect(verdict()).toBe('IOAS 1 is of another context than its id');
  IommufdObject.iommufd.poke(memory, target, own);
  IommufdObject.body.poke(memory, target, IommufdObject.body.peek(memory, object(2)));
  expect(verdict()).toBe('IOAS 1 can be found and is not finished');
});

test('breaks: an owner cannot destroy what nobody else may hold', async () => {
  const { memory, verdict } = await attachedGroup('O3');
  DestroyRefused.emit(memory, Kind.DEVICE, 3, 2);
  expect(verdict()).toBe('the owner of device 3 destroys it, which cannot fail, and finds 2 users');
});
