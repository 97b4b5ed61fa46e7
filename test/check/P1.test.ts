import { expect, test } from 'vitest';
import { Hwpt } from '#src/kernel/hwpt';
import { Ioas } from '#src/kernel/ioas';
import { MapReturned } from '#src/kernel/events';
import type { Frame } from '#hostmem/memory';
import { page } from '../kernel/vmm.ts';
import { attachedGroup } from './state.ts';

test('holds: mapped in pieces, unmapped, with a second domain, with none, and for mappings of part of a page set', async () => {
  const { vmm, fd, ioas, fds, devices, verdict } = await attachedGroup('P1');
  const steps = [
    () => vmm.map(fd, ioas[0]!, 0x10_0000, vmm.process.memory(5 * page), 5 * page),
    () => vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 0, devId: devices[0]!, ptId: ioas[0]!, outHwptId: 0 }),
    () => vmm.ioctl(fd, 'IOMMU_IOAS_COPY', { flags: 7, dstIoasId: ioas[1]!, srcIoasId: ioas[0]!, length: BigInt(2 * page), dstIova: 0x4000n, srcIova: 0x10_1000n }),
    () => vmm.attach(fds[0]!, ioas[1]!),
    () => vmm.unmap(fd, ioas[0]!, 0x10_0000, 5 * page),
    () => vmm.detach(fds[0]!),
    () => vmm.detach(fds[1]!),
  ];
  for (const step of steps) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('breaks: a domain lacks a mapping, has another page there, or has one too many', async () => {
  const { vmm, memory, body, hwpt, verdict } = await attachedGroup('P1');
  const { driver } = vmm.world.kernel;
  const domain = Hwpt.domain.peek(memory, body<'Hwpt'>(hwpt));
  driver.map(domain, 0, 0x9000, 5 as Frame, 3);
  expect(verdict()).toBe(`HWPT ${hwpt} of IOAS 1 maps 2 pages of 4096 bytes, 1 are mapped there`);
  driver.unmap(domain, 0, 0x9000, 1);
  expect(verdict()).toBeNull();
  driver.unmap(domain, 0, 0x1000, 1);
  expect(verdict()).toBe(`HWPT ${hwpt} of IOAS 1 does not map iova 0x1000, which is mapped there`);
  driver.map(domain, 0, 0x1000, 5 as Frame, 3);
  expect(verdict()).toBe(`HWPT ${hwpt} of IOAS 1 maps elsewhere iova 0x1000, which is mapped there`);
});

test('is silent about an IOAS whose domains somebody holds, for reading or for writing', async () => {
  const { vmm, memory, body, ioas, hwpt, here, verdict } = await attachedGroup('P1');
  vmm.world.kernel.driver.unmap(Hwpt.domain.peek(memory, body<'Hwpt'>(hwpt)), 0, 0x1000, 1);
  const held = body<'Ioas'>(ioas[0]!);
  MapReturned.emit(memory, ioas[0]!, 0, 0x1000, 1, 0, 1);
  expect(here.judge.moment(MapReturned.kind)?.invariant).toBe('P1');
  Ioas.domainsRwsem.acquireRead(memory, held);
  expect(verdict()).toBeNull();
  Ioas.domainsRwsem.releaseRead(memory, held);
  Ioas.domainsRwsem.acquireWrite(memory, held);
  expect(verdict()).toBeNull();
  Ioas.domainsRwsem.releaseWrite(memory, held);
  expect(verdict()).not.toBeNull();
});
