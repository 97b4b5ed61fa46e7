/**
 * A hardware queue of a vIOMMU locks the page that it lies in, through an access of the kernel's own, beside an ordinary access that pins the next page and is asked
 * to let go of it. On the mock IOMMU of the kernel's selftest, which has such queues.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const base = 0x1000_0000;
const page = 4096;

export default scenario({
  title: 'pages that an access pins are unmapped beside a hardware queue that comes and goes',
  seed: null,
  host: { iommu: 'mock' },
  variants: ['notify-keeps-internal'],
  holds: ['O1', 'O2', 'O3', 'O4', 'P1', 'P3', 'P5'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    const buffer = vmm.memory(2 * page, 0x1111);
    const { deviceId } = vmm.mockDevice(iommufd, ioas);
    const viommu = vmm.viommu(iommufd, deviceId, vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT));
    for (const at of [0, page]) vmm.map(iommufd, ioas, base + at, buffer + BigInt(at), page);
    return { iommufd, ioas, buffer, viommu, access: vmm.access(iommufd, ioas) };
  },

  actors: ({ vm }) => ({
    pinner: vm('vmm', (thread, { iommufd, access }) => {
      const pinned = thread.obtain('the pin', thread.pin(iommufd, access, base + page, page), 'ENOENT', 'EINVAL');
      if (pinned !== null) thread.expect('the unpin', thread.unpin(iommufd, access, pinned), null, 'ENOENT');
    }),

    unmapper: vm('vmm', (thread, { iommufd, ioas, buffer }) => {
      thread.expect('the unmap', thread.unmap(iommufd, ioas, base + page, page));
      thread.expect('the map', thread.map(iommufd, ioas, base + page, buffer, page));
    }),

    owner: vm('vmm', (thread, { iommufd, ioas, viommu }) => {
      const queue = thread.obtain('the queue', thread.hwQueue(iommufd, viommu, base));
      thread.expect('an unmap below the queue', thread.unmap(iommufd, ioas, base, page), 'EBUSY');
      if (queue !== null) thread.expect('the DESTROY of the queue', thread.destroy(iommufd, queue));
    }),
  }),
});
