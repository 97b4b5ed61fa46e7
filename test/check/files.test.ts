/** What files and dma-bufs are to the invariants of counts, pages and lists: held, filled, pinned or not, and taken away. */
import { expect, test } from 'vitest';
import { NULL } from '#hostmem/object';
import { dmabufGet, dmabufRevoke } from '#src/kernel/selftest/test-dmabuf';
import { createMemfd, truncateMemfd } from '#src/kernel/memfd';
import { page } from '../kernel/vmm.ts';
import { attachedGroup } from './state.ts';

test.each(['O1', 'O2', 'O3', 'O4', 'P1', 'P3', 'P5'])('%s holds with mappings of a file and of a dma-buf, revoked, unmapped, with the descriptors closed', async (id) => {
  const { vmm, fd, ioas, fds, verdict } = await attachedGroup(id);
  const { kernel } = vmm.world;
  vmm.enter();
  const memfd = createMemfd(kernel, false);
  truncateMemfd(kernel, memfd, 3 * page);
  const dmabuf = dmabufGet(kernel, NULL, { length: 2 * page });
  const mapFile = (of: number, iova: bigint, pages: number) => () =>
    vmm.ioctl(fd, 'IOMMU_IOAS_MAP_FILE', { flags: 7, ioasId: ioas[0]!, fd: of, start: 0n, length: BigInt(pages * page), iova });
  const steps = [
    mapFile(memfd, 0x20_0000n, 3),
    mapFile(dmabuf, 0x30_0000n, 2),
    () => vmm.attach(fds[0]!, ioas[1]!),
    () => vmm.attach(fds[0]!, ioas[0]!),
    () => dmabufRevoke(kernel, NULL, { fd: dmabuf, revoked: true }),
    () => vmm.close(memfd),
    () => vmm.close(dmabuf),
    () => vmm.unmap(fd, ioas[0]!, 0x20_0000, 3 * page),
    () => vmm.unmap(fd, ioas[0]!, 0x30_0000, 2 * page),
  ];
  for (const [index, step] of steps.entries()) {
    vmm.enter();
    const answer = step();
    expect(typeof answer === 'string' ? answer : null, `step ${index}`).toBeNull();
    expect(verdict()).toBeNull();
  }
});
