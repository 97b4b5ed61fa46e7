/**
 * Hardware has its own mind: the completion of an invalidation comes late, and a device is reset, where a strategy wants it. Neither is in the
 * schedule that everybody expects, and neither may be the kernel's undoing.
 */
import type { Ref } from '#hostmem/object';
import { enableAts } from '../kernel/iommu-probe.ts';
import { scenario } from '../scenario.ts';

const standing = 0x10000000;
const passing = 0x20000000;
const page = 4096;
const lineBytes = 64;

export default scenario({
  title: 'an invalidation completes late, or a device is reset, whenever it suits least',
  seed: null,
  host: { iommu: 'vtd-scalable', ats: true },
  variants: ['invalidate-after-unpin', 'reset-vs-attach'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'C8', 'D1', 'D4', 'D6', 'D7', 'G1', 'G8', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [shared, own] = vmm.taggedIoases(iommufd, standing, [0x1111, 0x2222]);
    const a = vmm.assign(w.device('A'), iommufd, own);
    for (const name of ['B', 'C']) vmm.assign(w.device(name), iommufd, shared);
    enableAts(w.kernel, w.directory['A'] as Ref<'PciFunction'>);
    return { iommufd, shared, own, a };
  },

  actors: ({ vm, device }) => ({
    /** Gives B memory that only the pin keeps, and takes it back. */
    mapper: vm('vmm', (thread, { iommufd, shared: ioas }) => {
      const va = thread.mmap(page);
      thread.expect('the map', thread.map(iommufd, ioas, passing, va, page));
      thread.munmap(va, page);
      thread.check(thread.dma('B', 'read', passing, lineBytes) === 0, 'B faulted on a mapped page');
      thread.expect('the unmap', thread.mayBeLate().unmap(iommufd, ioas, passing, page));
    }),

    owner: vm('vmm', (thread, { shared, a }) => thread.expect('the attach', thread.attach(a, shared), null, 'EBUSY')),

    /** Another thread of the VMM, whose guest may ask for a reset of its device. */
    resetter: vm('vmm', (thread, { iommufd, own }) => {
      thread.mayReset('A');
      for (let call = 0; call < 3; call++) thread.expect('a call', thread.ranges(iommufd, own));
    }),

    B: device('B', (dev) => dev.serve(1)),

    /** Shares B's domain and number, and so what the IOTLB holds for it. */
    C: device('C', (dev) => {
      for (const iova of [passing, standing]) dev.read(iova, lineBytes);
    }),
  }),
});
