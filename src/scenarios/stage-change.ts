/**
 * SMMUv3 moves a device from stage-1 tables to stage-2 tables without a moment in which it has none: one word of the stream's entry decides, and
 * what both HWPTs map is reached all the time.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'a device goes from a stage 1 to a stage 2 under its own DMA, and back',
  seed: '002',
  host: { iommu: 'smmuv3', fetchBits: 64 },
  variants: ['smmu-breaking-update'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D5', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.device('A'), iommufd);
    const [stage1, stage2] = tags.map((tag, index) => {
      const ioas = vmm.taggedIoas(iommufd, src, tag);
      return vmm.hwpt(iommufd, deviceId, ioas, index === 0 ? 0 : HwptFlag.NEST_PARENT);
    }) as [number, number];
    vmm.attach(fd, stage1);
    return { fd, stage1, stage2 };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, stage1, stage2 }) => {
      for (const hwpt of [stage2, stage1]) thread.expect(`a replace to HWPT ${hwpt}`, thread.attach(fd, hwpt));
    }),

    A: device('A', (dev) => dev.readTag(src, tags, 3)),
  }),
});
