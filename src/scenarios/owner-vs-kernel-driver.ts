/**
 * A group of two: a user takes one function, a driver of the kernel binds to the other and does DMA to its own buffer. One of them has to wait,
 * for the group has one translation.
 */
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { dmaMap, dmaUnmap } from '../kernel/dma-iommu.ts';
import { scenario } from '../scenario.ts';

const iova = 0x1000_0000;
const tag = 0x1111;
const kernelData = 0x4444;

export default scenario({
  title: 'a group is given to a user while a kernel driver binds to another member of it',
  seed: '000',
  race: { number: 6, buggy: 'owner-vs-kernel-driver' },
  variants: ['claim-races-driver'],
  holds: ['D4', 'D6', 'G1', 'G2', 'G3', 'G4', 'O1'],

  world(w) {
    const group = w.group('A', 'B');
    const vmm = w.process('vmm');
    w.process('host');
    w.dmaApi('B', { lazy: false });
    const iommufd = vmm.iommufd();
    const ioas = vmm.taggedIoas(iommufd, iova, tag);
    return { iommufd, ioas, vfio: group.vfio[0], buffer: w.buffer('host', 1) };
  },

  actors: ({ vm, device }) => ({
    user: vm('vmm', (thread, { iommufd, ioas, vfio }) => {
      const fd = thread.bind(vfio, iommufd);
      if (typeof fd === 'string') {
        thread.check(fd === 'EPERM', `a bind was refused with ${fd}`);
        return;
      }
      thread.expect("the owner's attach", thread.attach(fd, ioas));
      thread.close(fd);
    }),

    driver: vm('host', (thread, { buffer }) => {
      const errno = thread.bindDriver('B');
      if (errno !== null) {
        thread.check(errno === 'EBUSY', `a probe was refused with ${errno}`);
        // Left to itself the device goes where its group goes.
        thread.dma('B', 'read', iova, 64);
        return;
      }
      const dma = thread.named('B.dma') as Ref<'DmaDomain'>;
      const at = dmaMap(thread.kernel, dma, buffer as Frame, 1);
      thread.check(thread.dma('B', 'write', at, 64) === 0, 'the driver\'s device faulted on its own buffer');
      dmaUnmap(thread.kernel, dma, at, 1);
      thread.unbindDriver('B');
    }),

    A: device('A', (dev) => {
      const reached = dev.read(iova, 64) === 0;
      if (reached) dev.check(dev.word(0) === tag, `A read 0x${dev.word(0).toString(16)}`);
    }),

    B: device('B', (dev) => {
      dev.setWord(0, kernelData);
      dev.serve(1);
    }),
  }),
});
