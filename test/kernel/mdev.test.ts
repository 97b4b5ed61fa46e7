/** Shares of a function: what one has under a PASID is nobody else's, and what it reaches stays as long as it does. */
import { FaultInjection } from '#hostmem/fault-injection';
import type { Ref } from '#hostmem/object';
import { HwptFlag } from '#src/kernel/hwpt';
import { allowPasid, disallowPasid } from '#src/kernel/mdev';
import { World } from '#src/world';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

const iova = 0x1000;

/** Two shares of nic, and two HWPTs of a VMM that read as 1 and 2. */
function setUp() {
  const vmm = new Vmm(new World({ iommu: 'vtd-scalable', pasids: true }));
  const { world } = vmm;
  world.group('nic');
  for (const name of ['first', 'second']) world.share(name, 'nic');
  const fd = vmm.iommufd();
  const { fd: own, deviceId } = vmm.process.bound(world.group('own').vfio[0]!, fd);
  const hwpts = [1, 2].map((tag) => {
    const ioas = vmm.ioas(fd);
    vmm.map(fd, ioas, iova, vmm.process.memory(page, tag));
    return vmm.process.hwpt(fd, deviceId, ioas, HwptFlag.PASID);
  }) as [number, number];
  const share = (name: string) => world.directory[name] as Ref<'Mdev'>;
  vmm.enter();
  return {
    vmm, world, fd, own, hwpts,
    allow: (name: string, pasid: number, hwpt: number) => errnoOf(() => allowPasid(world.kernel, share(name), pasid, fd, hwpt)),
    disallow: (name: string, pasid: number) => errnoOf(() => disallowPasid(world.kernel, share(name), pasid)),
    found: (pasid: number) => {
      const dma = vmm.dma('nic');
      return dma.read(0, iova, 64, 0, pasid) === 0 ? dma.bufferWord(0) : 0;
    },
  };
}

test('a PASID of a function is one share\'s: the second that wants it is told EBUSY, and the first goes on to reach what it did', () => {
  const { vmm, hwpts, allow, disallow, found } = setUp();
  const before = vmm.ledger();
  expect([allow('first', 5, hwpts[0]), allow('second', 5, hwpts[1]), allow('first', 5, hwpts[1]), found(5)]).toEqual([null, 'EBUSY', 'EBUSY', 1]);
  expect([disallow('second', 5), disallow('first', 5), found(5), vmm.ledger()]).toEqual(['EINVAL', null, 0, before]);
  expect([allow('second', 5, hwpts[1]), found(5)]).toEqual([null, 2]);
});

test('PASID 0 is no share\'s', () => {
  const { hwpts, allow } = setUp();
  expect(allow('first', 0, hwpts[0])).toBe('EINVAL');
});

test('what a share reaches cannot be destroyed, and outlives its descriptors', () => {
  const { vmm, fd, own, hwpts, allow, disallow, found } = setUp();
  const before = vmm.ledger();
  expect([allow('first', 5, hwpts[0]), vmm.destroy(fd, hwpts[0])]).toEqual([null, 'EBUSY']);
  for (const descriptor of [own, fd]) vmm.close(descriptor);
  expect([found(5), disallow('first', 5), found(5)]).toEqual([1, null, 0]);
  expect(vmm.ledger().objects).toBeLessThan(before.objects);
  expect(vmm.ledger().pinned).toBe(0);
});

test('whatever finds no memory, a refused PASID is in no table and on no list, and the same call then succeeds', () => {
  const { vmm, world, fd, hwpts, allow, disallow, found } = setUp();
  const { kernel } = world.host;
  // What the driver keeps for the first PASID of a function stays with that.
  allow('first', 5, hwpts[0]);
  disallow('first', 5);
  const before = vmm.ledger();
  const refused: (string | null)[] = [];
  for (let nth = 1; ; nth++) {
    kernel.faults = new FaultInjection(nth);
    const answer = allow('first', 5, hwpts[0]);
    kernel.faults = null;
    if (answer === null) break;
    refused.push(answer);
    expect([found(5), vmm.ledger()]).toEqual([0, before]);
  }
  expect([refused.length > 2, new Set(refused)]).toEqual([true, new Set(['ENOMEM'])]);
  expect([found(5), disallow('first', 5), vmm.destroy(fd, hwpts[0])]).toEqual([1, null, null]);
});
