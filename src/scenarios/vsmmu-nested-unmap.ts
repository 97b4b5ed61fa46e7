/**
 * The story of `nested-unmap` on Arm: a guest with a virtual SMMUv3 unmaps a page in its own stage 1, and its VMM hands the guest's TLBI and SYNC over through
 * HWPT_INVALIDATE on the vIOMMU. Beside that the VMM takes another page of the guest out of the parent and puts it back. The guest's two devices read through
 * both stages.
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
/** IOVAs of the guest: one that it unmaps and maps again, and one behind which the VMM takes the page away. */
const passing = windowIova;
const ballooned = windowIova + 7 * page;
const [passingGpa, balloonGpa] = [nestedFreeGpa, nestedFreeGpa + page] as const;
const balloonTag = 0x3333;
const tagged = [{ gpa: passingGpa, tag: 0x1111 }, { gpa: balloonGpa, tag: balloonTag }];
/** Streams as the guest numbers them. */
const streams = [0x18, 0x20] as const;

export default scenario({
  title: 'a guest unmaps on a virtual SMMUv3, whose commands its VMM hands over, and its VMM unmaps below, under DMA through both stages',
  seed: null,
  host: { iommu: 'smmuv3' },
  variants: ['viommu-completes-first', 'smmu-parent-keeps-stage-1'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.guest('vm', guestPages);
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    const frames = w.directory['vm.frames'] as Ref<'Run'>;
    const balloonVa = w.guestMemory('vm') + BigInt(balloonGpa);
    vmm.map(iommufd, ioas, 0, balloonVa - BigInt(balloonGpa), balloonGpa);
    vmm.map(iommufd, ioas, balloonGpa, balloonVa, page);
    for (const { gpa, tag } of tagged) fill(w.host.ram, hpaOf(runGet(w.host.kernel, frames, gpa / page) as Frame), page, tag);
    layStage1(w.host, frames);
    setStage1Leaf(w.host, frames, passing, passingGpa);
    setStage1Leaf(w.host, frames, ballooned, balloonGpa);
    const [nic, disk] = vmm.boundAll(w.group('nic', 'disk').vfio as [number, number], iommufd);
    const parent = vmm.hwpt(iommufd, nic.deviceId, ioas, HwptFlag.NEST_PARENT);
    const viommu = vmm.viommu(iommufd, nic.deviceId, parent, smmuViommuType);
    for (const [index, { deviceId }] of [nic, disk].entries()) vmm.vdevice(iommufd, viommu, deviceId, streams[index]!);
    const nested = vmm.smmuNestedHwpt(iommufd, nic.deviceId, viommu, descriptorGpa);
    for (const { fd } of [nic, disk]) vmm.attach(fd, parent);
    return { iommufd, ioas, fd: nic.fd, viommu, nested, balloonVa };
  },

  actors: ({ vm, device, viommu: virtual }) => ({
    /** Has its unit switched on, which its VMM does for it. Whether a read gets through is for D1 to judge. */
    guest: vm('vm', (thread, { fd, nested }) => {
      thread.expect("the attach to the guest's stage 1", thread.attach(fd, nested));
      const iommu = new SmmuGuestIommu(thread, 'vm');
      thread.check(thread.dma('nic', 'read', passing, lineBytes) === 0, 'a page that the guest has mapped was not reached');
      iommu.unmap(passing);
      thread.dma('nic', 'read', passing, lineBytes);
      iommu.map(passing, passingGpa);
    }),

    balloon: vm('vm', (thread, { iommufd, ioas, balloonVa }) => {
      thread.dma('disk', 'read', ballooned, lineBytes);
      thread.expect('the unmap', thread.unmap(iommufd, ioas, balloonGpa, page));
      thread.dma('disk', 'read', ballooned, lineBytes);
      thread.expect('the map', thread.map(iommufd, ioas, balloonGpa, balloonVa, page));
    }),

    vmm: virtual('vm', (thread, { iommufd, viommu }) => thread.serveSmmu({ iommufd, viommu }, 1)),

    nic: device('nic', (dev) => {
      dev.serve(2);
      dev.readTag(ballooned, [balloonTag]);
    }),

    disk: device('disk', (dev) => dev.serve(2)),
  }),
});
