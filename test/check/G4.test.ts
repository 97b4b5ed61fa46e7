import { expect, test } from 'vitest';
import type { Ref } from '#hostmem/object';
import { IommuGroup } from '#src/kernel/iommu-group';
import { groupOf } from '#src/kernel/iommu-probe';
import { bindDriver, unbindDriver } from '#src/kernel/kernel-driver';
import { court } from './histories.ts';

async function driven() {
  const here = await court('G4');
  const { kernel, directory } = here.vmm.world;
  const b = directory['B'] as Ref<'PciFunction'>;
  bindDriver(kernel, b);
  return { here, kernel, b, core: groupOf(kernel, b), verdict: () => here.verdict()?.message ?? null };
}

test('holds: with a driver, and with a user after it', async () => {
  const { here, kernel, b, verdict } = await driven();
  expect(verdict()).toBeNull();
  unbindDriver(kernel, b);
  here.vmm.process.bind(here.group.vfio[0]!, here.vmm.iommufd());
  expect(verdict()).toBeNull();
});

test('breaks: the group is switched under a driver', async () => {
  const { kernel, core, verdict } = await driven();
  IommuGroup.domain.poke(kernel.memory, core, kernel.driver.blockedDomain);
  expect(verdict()).toBe('group 1 has a kernel driver, and is not on its default domain');
});
