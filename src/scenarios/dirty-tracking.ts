/**
 * Live migration: a VMM has its device's writes tracked and asks which pages were written. The range that it asks for has a hole, once
 * its bitmap lies where the kernel cannot write, and a second agent switches tracking on although it is on: K1, K1b and K6 of 7.2.
 *
 * No emulated VT-d tracks writes, so that the device is the mock device of the kernel's selftest, as in the recordings.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
/** Pages 0-3 and 8-11 are mapped, 4-7 are the hole. */
const start = 0x1000000;
const behindHole = start + 8 * page;
const allPages = 12;

export default scenario({
  title: 'a VMM asks what its device wrote: over a hole, with a bitmap that cannot be written, and after tracking was switched on twice',
  seed: null,
  host: { iommu: 'mock' },
  caught72: 'P8',
  variants: ['K1', 'K1b', 'K6', 'mended'],
  holds: ['D7', 'O5', 'P8'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    for (const iova of [start, behindHole]) vmm.map(iommufd, ioas, iova, vmm.memory(4 * page), 4 * page);
    const device = vmm.mockDevice(iommufd, ioas);
    const hwpt = vmm.hwpt(iommufd, device.deviceId, ioas, HwptFlag.DIRTY_TRACKING);
    vmm.mockReplace(iommufd, device, hwpt);
    vmm.trackDirty(iommufd, hwpt);
    return { iommufd, hwpt };
  },

  actors: ({ vm }) => ({
    device: vm('vmm', (thread, { iommufd, hwpt }) => {
      for (const iova of [start + page, behindHole + page]) {
        thread.expect('a write that is to be tracked', thread.mockWrite(iommufd, hwpt, iova));
      }
    }),

    migration: vm('vmm', (thread, { iommufd, hwpt }) => {
      thread.expect('switching tracking on', thread.trackDirty(iommufd, hwpt, true));
      // 7.2 says 0 here; whatever is said, what was written is to be told by the next query at the latest.
      thread.takeDirty(iommufd, hwpt, start, allPages, 0);
      thread.expect('a query', thread.takeDirty(iommufd, hwpt, start, allPages).errno);
    }),
  }),
});
