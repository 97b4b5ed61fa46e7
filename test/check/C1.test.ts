import { NULL } from '#hostmem/object';
import { IommuDomain } from '#src/drivers/domain';
import { setAts } from '#src/drivers/vtd/ats';
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
