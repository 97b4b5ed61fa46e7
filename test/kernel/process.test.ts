/** Memory of a process: what a munmap of a part leaves. */
import { peek } from '#hostmem/atomics';
import { mmap, munmap, userAddress } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

test('a munmap in the middle of a region leaves both ends as they were, and the hole can be mapped anew', () => {
  const vmm = new Vmm();
  const { kernel, host } = vmm.world;
  const { ref } = vmm.process;
  vmm.enter();
  const before = vmm.ledger();
  const va = vmm.process.memory(4 * page, 7);
  const word = (index: number) => errnoOf(() => userAddress(kernel, ref, va + BigInt(index * page))) ?? peek(host.ram, userAddress(kernel, ref, va + BigInt(index * page)));
  munmap(kernel, ref, va + 4096n, 8192n);
  expect([0, 1, 2, 3].map(word)).toEqual([7, 'EFAULT', 'EFAULT', 7]);
  expect(vmm.ledger().frames).toBe(before.frames + 2);
  mmap(kernel, ref, page, true, va + 4096n);
  expect([0, 1, 2, 3].map(word)).toEqual([7, 0, 'EFAULT', 7]);
  expect(errnoOf(() => munmap(kernel, ref, va + 8192n, 4096n))).toBe('EINVAL');
  // From the end of one region over a hole into the next.
  munmap(kernel, ref, va, 16384n);
  expect(vmm.ledger()).toEqual(before);
});

test('what is pinned outlives the munmap of a part', () => {
  const vmm = new Vmm();
  const group = vmm.world.group('A');
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  const va = vmm.process.memory(2 * page, 7);
  vmm.map(fd, ioas, 0x1000, va, 2 * page);
  vmm.attach(vmm.process.bind(group.vfio[0]!, fd), ioas);
  munmap(vmm.world.kernel, vmm.process.ref, va + 4096n, 4096n);
  expect([vmm.sees('A', 0x1000), vmm.sees('A', 0x2000)]).toEqual([7, 7]);
});
