import { poke } from '#hostmem/atomics';
import { NULL } from '#hostmem/object';
import { IommuDomain } from '#src/drivers/domain';
import { setAts } from '#src/drivers/vtd/ats';
import type { VtdOperations } from '#src/drivers/vtd/operations';
import { HwptFlag } from '#src/kernel/hwpt';
import { userAddress } from '#src/kernel/process';
import { IommuDevice } from '#src/drivers/driver';
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
  expect(verdict?.message).toMatch(/^the unit's IOTLB holds a translation of the domain with root frame 0x40/);
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
