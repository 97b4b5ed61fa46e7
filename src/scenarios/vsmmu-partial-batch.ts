/**
 * A guest with a virtual SMMUv3 unmaps a page in its own stage 1. Behind its TLBI the guest's queue has a command that names a device that the VMM has unplugged. The
 * VMM hands the queue over through HWPT_INVALIDATE, and is refused at that command: what the kernel says it has handled is done, and so the guest is told. In 7.2
 * the TLBI was counted and never issued: K2. The device reads all the while. Nobody has to race for it.
 */
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { descriptorGpa, layStage1, setStage1Leaf, SmmuGuestIommu } from '../actors/virtual-smmu.ts';
import { nestedFreeGpa, windowIova } from '../actors/virtual-vtd.ts';
import { smmuViommuType } from '../drivers/smmuv3/viommu.ts';
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const guestPages = 16;
const lineBytes = 64;
/** Streams as the guest numbers them. */
const [nicStream, unpluggedStream] = [0x18, 0x20] as const;
/** IOVAs of the guest: one that it unmaps and maps again, and one that stays. */
const passing = windowIova;
const staying = windowIova + 7 * page;
const [passingGpa, stayingGpa] = [nestedFreeGpa, nestedFreeGpa + page] as const;
const [passingTag, stayingTag] = [0x1111, 0x2222] as const;

export default scenario({
  title: "a guest's unmap on a virtual SMMUv3, whose queue has a command that its VMM is refused, under DMA through both stages",
  seed: null,
  host: { iommu: 'smmuv3' },
  caught72: 'D1',
  variants: ['K2', 'mended'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.guest('vm', guestPages);
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('vm'), guestPages * page);
    const frames = w.directory['vm.frames'] as Ref<'Run'>;
    layStage1(w.host, frames);
    for (const [iova, gpa, tag] of [[passing, passingGpa, passingTag], [staying, stayingGpa, stayingTag]] as const) {
      fill(w.host.ram, hpaOf(runGet(w.host.kernel, frames, gpa / page) as Frame), page, tag);
      setStage1Leaf(w.host, frames, iova, gpa);
    }
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const parent = vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT);
    const viommu = vmm.viommu(iommufd, deviceId, parent, smmuViommuType);
    vmm.vdevice(iommufd, viommu, deviceId, nicStream);
    const nested = vmm.smmuNestedHwpt(iommufd, deviceId, viommu, descriptorGpa);
    vmm.attach(fd, parent);
    return { iommufd, fd, viommu, nested };
  },

  actors: ({ vm, device, viommu: virtual }) => ({
    /** Has its unit switched on, which its VMM does for it. Whether the second read gets through is for D1 to judge. */
    guest: vm('vm', (thread, { fd, nested }) => {
      thread.expect("the attach to the guest's stage 1", thread.attach(fd, nested));
      const iommu = new SmmuGuestIommu(thread, 'vm');
      thread.check(thread.dma('nic', 'read', passing, lineBytes) === 0, 'a page that the guest has mapped was not reached');
      iommu.unmap(passing, unpluggedStream);
      thread.dma('nic', 'read', passing, lineBytes);
      iommu.map(passing, passingGpa);
    }),

    vmm: virtual('vm', (thread, { iommufd, viommu }) => thread.serveSmmu({ iommufd, viommu }, 1)),

    nic: device('nic', (dev) => {
      dev.serve(1);
      dev.readTag(passing, [passingTag]);
      dev.serve(1);
      dev.readTag(staying, [stayingTag]);
    }),
  }),
});
