/**
 * A group of two: a user takes one function, a driver of the kernel binds to the other and does DMA to its own buffer. One of them has to wait,
 * for the group has one translation.
 */
import { HostDriver } from '../actors/host-driver.ts';
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
      const fd = thread.obtain('the bind', thread.bind(vfio, iommufd), 'EPERM');
      if (fd === null) return;
      thread.expect("the owner's attach", thread.attach(fd, ioas));
      thread.close(fd);
    }),

    driver: vm('host', (thread, { buffer }) => {
      const errno = thread.bindDriver('B');
      thread.expect('the probe', errno, null, 'EBUSY');
      if (errno !== null) {
        // Left to itself the device goes where its group goes.
        thread.dma('B', 'read', iova, 64);
        return;
      }
      const driver = new HostDriver(thread, 'B');
      const at = driver.dmaMap(buffer, 1);
      thread.check(thread.dma('B', 'write', at, 64) === 0, 'the driver\'s device faulted on its own buffer');
      driver.dmaUnmap(at, 1);
      thread.unbindDriver('B');
    }),

    A: device('A', (dev) => dev.readTag(iova, [tag])),

    B: device('B', (dev) => {
      dev.setWord(0, kernelData);
      dev.serve(1);
    }),
  }),
});
