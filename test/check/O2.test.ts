import { expect, test } from 'vitest';
import { IommuDomain } from '#src/drivers/domain';
import { attachDevicePasid } from '#src/kernel/group-pasid';
import { IommufdGroup } from '#src/kernel/iommufd-group';
import { Hwpt } from '#src/kernel/hwpt';
import { IommuGroup } from '#src/kernel/iommu-group';
import { violationOf } from '#src/schedule/violation';
import { attachedGroup } from './state.ts';

test('holds: attached, replaced, detached, closed', async () => {
  const { vmm, fd, fds, ioas, verdict } = await attachedGroup('O2');
  for (const step of [() => vmm.attach(fds[0]!, ioas[1]!), () => vmm.detach(fds[1]!), () => vmm.close(fds[0]!), () => vmm.close(fd)]) {
    step();
    expect(verdict()).toBeNull();
  }
});

test('breaks: a group is left on a domain that was freed, in the core and in the record', async () => {
  const core = await attachedGroup('O2');
  const freed = IommuDomain.create(core.memory);
  IommuDomain.free(core.memory, freed);
  IommuGroup.domain.poke(core.memory, core.core, freed);
  expect(core.verdict()).toBe('group 1 translates through a domain that was freed');

  const record = await attachedGroup('O2');
  const gone = Hwpt.create(record.memory);
  Hwpt.free(record.memory, gone);
  IommufdGroup.hwpt.poke(record.memory, record.group, gone);
  expect(record.verdict()).toBe('group 1 is recorded on an HWPT that was freed');
});

test('breaks: a PASID of a group goes through a domain that was freed', async () => {
  const { vmm, memory, core, verdict } = await attachedGroup('O2');
  const domain = IommuDomain.create(memory);
  attachDevicePasid(vmm.world.kernel, core, 5, domain);
  expect(verdict()).toBeNull();
  IommuDomain.free(memory, domain);
  expect(verdict()).toBe('PASID 5 of group 1 goes through a domain that was freed');
});

test('breaks: an IOAS fills a domain that was freed', async () => {
  const { memory, body, hwpt, core, verdict } = await attachedGroup('O2');
  const domain = Hwpt.domain.peek(memory, body<'Hwpt'>(hwpt));
  IommuGroup.domain.poke(memory, core, IommuGroup.blockingDomain.peek(memory, core));
  IommuDomain.free(memory, domain);
  expect(verdict()).toBe('IOAS 1 fills a domain that was freed');
});

test('breaks: a reference to what was freed is followed, whoever does it', async () => {
  const { memory } = await attachedGroup('O2');
  const gone = Hwpt.create(memory);
  Hwpt.free(memory, gone);
  let thrown: unknown = null;
  try {
    Hwpt.ioas.load(memory, gone);
  } catch (error) {
    thrown = error;
  }
  expect(violationOf(thrown)).toMatchObject({ invariant: 'O2', message: expect.stringMatching(/Hwpt.*free/) });
});
