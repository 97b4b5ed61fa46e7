/**
 * A device's requests carry a PASID, whose attachment is replaced and taken away under them, while a page of its IOAS comes and goes and is given
 * back to the host. What holds for requests without PASID holds for these: the caches tag them with a number of their own.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const src = 0x10000000;
const churn = 0x20000000;
const pasid = 5;
const tags = [0x1111, 0x2222] as const;
const churned = 0x3333;

export default scenario({
  title: 'a PASID is replaced and detached, and a page unmapped, under the DMA that carries it',
  seed: '004',
  host: { iommu: 'vtd-first-stage', pasids: true },
  variants: ['pasid-tag-of-rid', 'pasid-flush-of-rid', 'pasid-replace-keeps-entry', 'invalidate-after-unpin'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D7', 'G2', 'G9', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const ioases = vmm.taggedIoases(iommufd, src, tags);
    const [first, second] = ioases.map((ioas) => vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID)) as [number, number];
    // The RID keeps the first HWPT, and with it its domain id, in use.
    vmm.attach(fd, first);
    vmm.attachPasid(fd, pasid, first);
    return { iommufd, fd, first, second, ioas: ioases[0] };
  },

  actors: ({ vm, device }) => ({
    /** The page is unmapped from the process first: whoever unpins it frees it. */
    mapper: vm('vmm', (thread, { iommufd, ioas }) => {
      const va = thread.mmap(page);
      thread.store(va, churned);
      thread.expect('the map', thread.map(iommufd, ioas, churn, va, page));
      thread.munmap(va, page);
      thread.dma('nic', 'read', churn, 64, pasid);
      thread.expect('the unmap', thread.unmap(iommufd, ioas, churn, page));
      thread.check(thread.dma('nic', 'read', churn, 64, pasid) !== 0, 'the device read a page whose unmap had returned');
    }),

    mover: vm('vmm', (thread, { fd, first, second }) => {
      thread.expect('the replace', thread.attachPasid(fd, pasid, second));
      thread.expect('the detach', thread.detachPasid(fd, pasid));
      thread.expect('the attach', thread.attachPasid(fd, pasid, first));
    }),

    /** VT-d breaks before it makes: a fault is legal, what is mapped nowhere is not. */
    nic: device('nic', (dev) => {
      for (let i = 0; i < 2; i++) {
        dev.readTag(src, tags, 1, pasid);
        dev.readTag(churn, [churned], 1, pasid);
        dev.serve(1);
      }
    }),
  }),
});
