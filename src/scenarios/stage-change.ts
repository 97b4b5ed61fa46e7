/**
 * SMMUv3 moves a device from stage-1 tables to stage-2 tables without a moment in which it has none: one word of the stream's entry decides, and
 * what both HWPTs map is reached all the time.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const page = 4096;
const tags = [0x1111, 0x2222];

export default scenario({
  title: 'a device goes from a stage 1 to a stage 2 under its own DMA, and back',
  seed: '002',
  host: { iommu: 'smmuv3', fetchBits: 64 },
  variants: ['smmu-breaking-update'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D5', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.group('A').vfio[0]!, iommufd);
    const [stage1, stage2] = tags.map((tag, index) => {
      const ioas = vmm.ioas(iommufd);
      vmm.map(iommufd, ioas, src, vmm.memory(page, tag), page);
      return vmm.hwpt(iommufd, deviceId, ioas, index === 0 ? 0 : HwptFlag.NEST_PARENT);
    }) as [number, number];
    vmm.attach(fd, stage1);
    return { fd, stage1, stage2 };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, stage1, stage2 }) => {
      for (const hwpt of [stage2, stage1]) thread.check(thread.attach(fd, hwpt) === null, `a replace to HWPT ${hwpt} failed`);
    }),

    A: device('A', (dev) => {
      for (let i = 0; i < 3; i++) if (dev.read(src, 64) === 0) dev.check(tags.includes(dev.word(0)), `read 0x${dev.word(0).toString(16)}, the tag of no IOAS`);
    }),
  }),
});
