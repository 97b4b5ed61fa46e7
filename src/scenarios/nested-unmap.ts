/**
 * A guest with a virtual VT-d unit has page tables of its own, which hardware walks on top of its VMM's (nested translation). It unmaps a page: its
 * queue is consumed by the vIOMMU, which forwards the invalidation through HWPT_INVALIDATE and then writes the status that the guest waits for. Beside
 * that the VMM takes another page of the guest out of the parent and puts it back. The guest's two devices, one group, read through both stages, and
 * from caches of their own.
 */
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { GuestIommu } from '../actors/guest-iommu.ts';
import { layFirstStage, setLeaf } from '../actors/guest-first-stage.ts';
import { firstStageGpa, nestedFreeGpa, windowIova } from '../actors/virtual-vtd.ts';
import { HwptFlag } from '../kernel/hwpt.ts';
import { enableAts } from '../kernel/iommu-probe.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const guestPages = 16;
const lineBytes = 64;
/** IOVAs of the guest: one that it unmaps and maps again, and one behind which the VMM takes the page away. */
const passing = windowIova;
const ballooned = windowIova + 7 * page;
const [firstGpa, secondGpa, balloonGpa] = [nestedFreeGpa, nestedFreeGpa + page, nestedFreeGpa + 2 * page] as const;
const balloonTag = 0x3333;
const tagged = [{ gpa: firstGpa, tag: 0x1111 }, { gpa: secondGpa, tag: 0x2222 }, { gpa: balloonGpa, tag: balloonTag }];

export default scenario({
  title: 'a guest unmaps in its own tables, whose invalidations its vIOMMU forwards, and its VMM in those below, under DMA through both',
  seed: null,
  host: { iommu: 'vtd-nested', ats: true },
  variants: ['viommu-completes-first', 'vtd-nested-parent-untagged', 'vtd-nested-devtlb-by-page'],
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
    layFirstStage(w.host, frames);
    setLeaf(w.host, frames, passing, firstGpa);
    setLeaf(w.host, frames, ballooned, balloonGpa);
    const { fd, deviceId } = vmm.bound(w.group('nic', 'disk').vfio[0]!, iommufd);
    const parent = vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT);
    const nested = vmm.nestedHwpt(iommufd, deviceId, parent, firstStageGpa);
    vmm.attach(fd, parent);
    for (const name of ['nic', 'disk']) enableAts(w.kernel, w.directory[name] as Ref<'PciFunction'>);
    return { iommufd, ioas, fd, nested, balloonVa };
  },

  actors: ({ vm, device, viommu }) => ({
    /** Has its unit switched on, which its VMM does for it. Whether a read gets through is for D1 to judge. */
    guest: vm('vm', (thread, { fd, nested }) => {
      thread.expect("the attach to the guest's tables", thread.attach(fd, nested));
      const iommu = new GuestIommu(thread, 'vm');
      for (const gpa of [secondGpa, firstGpa]) {
        thread.check(thread.dma('nic', 'read', passing, lineBytes) === 0, 'a page that the guest has mapped was not reached');
        iommu.unmap(passing);
        thread.dma('nic', 'read', passing, lineBytes);
        iommu.map(passing, gpa);
      }
    }),

    vmm: vm('vm', (thread, { iommufd, ioas, balloonVa }) => {
      thread.dma('disk', 'read', ballooned, lineBytes);
      thread.expect('the unmap', thread.unmap(iommufd, ioas, balloonGpa, page));
      thread.dma('disk', 'read', ballooned, lineBytes);
      thread.expect('the map', thread.map(iommufd, ioas, balloonGpa, balloonVa, page));
    }),

    viommu: viommu('vm', (virtual, { iommufd, nested }) => virtual.serveVtd({ iommufd, nested }, 2)),

    nic: device('nic', (dev) => {
      dev.serve(4);
      dev.readTag(ballooned, [balloonTag]);
    }),

    disk: device('disk', (dev) => dev.serve(2)),
  }),
});
