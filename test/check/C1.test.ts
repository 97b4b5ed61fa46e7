import { poke } from '#hostmem/atomics';
import { NULL } from '#hostmem/object';
import { IommuDomain } from '#src/drivers/domain';
import { setAts } from '#src/drivers/vtd/ats';
import { userAddress } from '#src/kernel/process';
import { IommuDevice } from '#src/drivers/driver';
import { joinDomain } from '#src/drivers/vtd/attach';
import type { VtdOperations } from '#src/drivers/vtd/operations';
import { HwptFlag } from '#src/kernel/hwpt';
import { expect, test } from 'vitest';
import { Driven } from './driven.ts';

test('holds: every cache that fills up is on the list of the domain, of the unit and of a device with ATS', async () => {
  for (const ats of [false, true]) {
    const driven = await Driven.create({ ats }, {}, ['C1']);
    driven.live();
    expect(driven.verdict).toBeNull();
  }
});

test('breaks: a device keeps translations, and its cache is on no list', async () => {
  const driven = await Driven.create({ ats: true }, { enableAts: (vtd, device) => setAts(vtd, device, true), assignDeviceTag: () => true }, ['C1']);
  driven.live();
  expect(driven.verdict?.message).toMatch(/^the device TLB of function 05.0 holds a translation of the domain with root frame 0x\w+, whose list of cache tags does not have it$/);
});

/** A device attached to a guest's tables on a nest parent, reading through both. */
async function nestedDriven(mistake: Partial<VtdOperations>): Promise<Driven> {
  const driven = await Driven.create({ iommu: 'vtd-nested' }, mistake, ['C1']);
  const { vmm } = driven;
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  const memory = vmm.process.memory(16 * 4096);
  const { fd: vfio, deviceId } = vmm.process.bound(driven.group.vfio[0]!, fd);
  vmm.map(fd, ioas, 0, memory, 16 * 4096);
  const nested = vmm.process.nestedHwpt(fd, deviceId, vmm.process.hwpt(fd, deviceId, ioas, HwptFlag.NEST_PARENT), 0x1000);
  const { host, kernel } = vmm.world;
  const hpaOfPage = (page: number): number => userAddress(kernel, vmm.process.ref, memory + BigInt(page * 4096));
  for (const page of [1, 2, 3, 4]) poke(host.ram, hpaOfPage(page), ((page + 1) << 12) | 0x67);
  vmm.attach(vfio, nested);
  expect(driven.dma.read(0, 0, 4)).toBe(0);
  return driven;
}

test('holds: what two stages made is on the lists of both', async () => {
  expect((await nestedDriven({})).verdict).toBeNull();
});

test("breaks: it is not on the list of the nest parent", async () => {
  const { verdict } = await nestedDriven({ assignParentTag: () => true, unassignParentTag: () => {} });
  expect(verdict?.message).toMatch(/^the unit's IOTLB holds a translation of the domain with root page 0x1 of a guest on root frame 0x\w+, whose list/);
});

test("breaks: the unit is on no list", async () => {
  const forget = (kernel: Parameters<typeof IommuDomain.firstTag.poke>[0], device: Parameters<typeof IommuDevice.domain.peek>[1]): void =>
    IommuDomain.firstTag.poke(kernel, IommuDevice.domain.peek(kernel, device), NULL);
  const driven = await Driven.create({}, {}, ['C1']);
  const { vmm } = driven;
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  vmm.map(fd, ioas, 0x1000, vmm.process.memory(4096, 1));
  vmm.attach(vmm.process.bind(driven.group.vfio[0]!, fd), ioas);
  driven.dma.read(0, 0x1000, 4);
  expect(driven.verdict).toBeNull();
  forget(driven.memory, driven.driverData);
  driven.dma.read(0, 0x1000, 4);
  expect(driven.verdict?.message).toMatch(/^the unit's IOTLB holds a translation/);
});

/** A device reads with a PASID, and without one, on one HWPT; by stage, and with or without a device TLB. */
async function readByPasid(iommu: 'vtd-first-stage' | 'vtd-scalable', ats: boolean, mistake: Partial<VtdOperations>): Promise<string | null> {
  const driven = await Driven.create({ iommu, ats, pasids: true }, mistake, ['C1']);
  const { process, world } = driven.vmm;
  const iommufd = process.iommufd();
  const ioas = process.ioas(iommufd);
  process.map(iommufd, ioas, 0x1000, process.memory(4096, 1), 4096);
  const { fd, deviceId } = process.bound(driven.group.vfio[0]!, iommufd);
  if (ats) world.kernel.driver.enableAts!(driven.device);
  const hwpt = process.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID);
  process.attach(fd, hwpt);
  process.attachPasid(fd, 5, hwpt);
  expect([driven.dma.read(0, 0x1000, 4), driven.dma.read(0, 0x1000, 4, 0, 5)]).toEqual([0, 0]);
  return driven.verdict?.message ?? null;
}

test('holds: a PASID has a cache tag of its own', async () => {
  for (const iommu of ['vtd-first-stage', 'vtd-scalable'] as const) for (const ats of [false, true]) expect(await readByPasid(iommu, ats, {})).toBeNull();
});

test("breaks: a PASID is on the list as the RID is, where a flush has to name it: in a first stage's lines, and in a device's", async () => {
  const asRid: Partial<VtdOperations> = { joinDomain: (vtd, device, unit, domain) => joinDomain(vtd, device, unit, domain) };
  expect(await readByPasid('vtd-first-stage', false, asRid)).toMatch(/^the unit's IOTLB/);
  expect(await readByPasid('vtd-scalable', true, asRid)).toMatch(/^the device TLB/);
  expect(await readByPasid('vtd-scalable', false, asRid)).toBeNull();
});
