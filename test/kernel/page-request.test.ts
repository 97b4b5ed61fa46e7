/** Page requests: queued, read, answered, and answered for who leaves. */
import type { Ref } from '#hostmem/object';
import { getFile, putFile } from '#src/kernel/file';
import { File } from '#src/kernel/open-file';
import { Iommufd, IommufdObject } from '#src/kernel/objects';
import { reportPageRequest } from '#src/kernel/page-request';
import { poll, read, write } from '#src/kernel/syscalls';
import { expect, test } from 'vitest';
import { AbleVmm } from './able-driver.ts';
import { errnoOf } from './vmm.ts';

const FAULT_ID_VALID = 4;

/** The device's RID is on a nested HWPT that delivers to a queue. */
function setUp() {
  const vmm = new AbleVmm();
  const arg = { flags: 0, outFaultId: 0, outFaultFd: 0 };
  vmm.ioctl(vmm.fd, 'IOMMU_FAULT_QUEUE_ALLOC', arg);
  const parent = vmm.hwpt(1) as number;
  const nested = { flags: FAULT_ID_VALID, devId: 2, ptId: parent, dataType: 1, dataLength: 4, data: new Uint8Array(4), faultId: arg.outFaultId, outHwptId: 0 };
  expect(vmm.ioctl(vmm.fd, 'IOMMU_HWPT_ALLOC', nested)).toBeNull();
  expect(vmm.attach(vmm.vfio, nested.outHwptId)).toBe(nested.outHwptId);
  const { memory } = vmm.kernel;
  const file = getFile(vmm.kernel, vmm.fd);
  const header = Iommufd.objects.get(memory, File.body.peek(memory, file) as Ref<'Iommufd'>, 2) as Ref<'IommufdObject'>;
  putFile(vmm.kernel, file);
  const device = IommufdObject.body.peek(memory, header) as Ref<'IommufdDevice'>;
  const ask = (group: number, pasid: number | null = 1): boolean => reportPageRequest(vmm.kernel, device, { pasid, group, permissions: 3, address: 0xdeadbeafn });
  const answer = (...words: number[]): number => write(vmm.kernel, arg.outFaultFd, new Uint8Array(Uint32Array.from(words).buffer));
  const records = (count: number): number[] => [...new Uint32Array(read(vmm.kernel, arg.outFaultFd, count).slice().buffer)];
  return { vmm, queue: arg, nested: nested.outHwptId, ask, answer, records };
}

test('a request is read once, with the lowest free cookie, and answered once', () => {
  const { vmm, queue, ask, answer, records } = setUp();
  expect(poll(vmm.kernel, queue.outFaultFd)).toEqual({ readable: false, writable: true });
  expect(ask(2)).toBe(true);
  expect(ask(4, null)).toBe(true);
  expect(poll(vmm.kernel, queue.outFaultFd).readable).toBe(true);
  expect(records(40)).toEqual([3, 2, 1, 2, 3, 0, 0xdeadbeaf, 0, 0, 1]);
  expect(records(80)).toEqual([2, 2, 0, 4, 3, 0, 0xdeadbeaf, 0, 0, 2]);
  expect(records(40)).toEqual([]);
  expect(answer(1, 0)).toBe(8);
  expect(errnoOf(() => answer(1, 0))).toBe('EINVAL');
  ask(6);
  expect(records(40).at(-1)).toBe(1);
});

test('answers before one that is wrong are taken', () => {
  const { ask, answer, records } = setUp();
  ask(1);
  ask(2);
  records(80);
  expect(errnoOf(() => answer(1, 2))).toBe('EINVAL');
  expect(answer(1, 1, 7, 0)).toBe(8);
  expect(answer(2, 0)).toBe(8);
});

test('half a record is ESPIPE', () => {
  const { vmm, queue, records } = setUp();
  expect(errnoOf(() => records(41))).toBe('ESPIPE');
  expect(errnoOf(() => write(vmm.kernel, queue.outFaultFd, new Uint8Array(7)))).toBe('ESPIPE');
});

test.each(['read', 'queued'])('who detaches gets an answer to what is %s', (state) => {
  const { vmm, ask, answer, records } = setUp();
  const before = vmm.ledger();
  ask(1);
  if (state === 'read') records(40);
  expect(vmm.detach(vmm.vfio)).toBeNull();
  expect(records(40)).toEqual([]);
  expect(errnoOf(() => answer(1, 0))).toBe('EINVAL');
  expect(vmm.ledger().objects).toBeLessThanOrEqual(before.objects);
  expect(ask(1)).toBe(false);
});

test('a queue stays while an HWPT delivers to it or its descriptor is open', () => {
  const { vmm, queue, nested } = setUp();
  vmm.detach(vmm.vfio);
  expect(vmm.destroy(vmm.fd, queue.outFaultId)).toBe('EBUSY');
  expect(vmm.destroy(vmm.fd, nested)).toBeNull();
  expect(vmm.destroy(vmm.fd, queue.outFaultId)).toBe('EBUSY');
  vmm.close(queue.outFaultFd);
  expect(vmm.destroy(vmm.fd, queue.outFaultId)).toBeNull();
});
