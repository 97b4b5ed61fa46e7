/**
 * A guest with a virtual VT-d unit gives its device other page tables: it changes its PASID entry, and has its unit forget the old one. Its vIOMMU sees the invalidation, makes
 * a nested HWPT of the new tables, moves the device there, and only then writes the status that the guest waits for. The device reads all the while.
 */
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { GuestIommu } from '../actors/guest-iommu.ts';
import { firstStageLevels, layFirstStage, setLeaf } from '../actors/guest-first-stage.ts';
import { firstStageGpa, nestedFreeGpa, windowIova } from '../actors/virtual-vtd.ts';
import { HwptFlag } from '../kernel/hwpt.ts';
import { enableAts } from '../kernel/iommu-probe.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const guestPages = 16;
const lineBytes = 64;
/** Two sets of tables; an IOVA leads to a page of its own in each. */
const firstDataGpa = nestedFreeGpa + firstStageLevels * page;
const sets = [{ rootGpa: firstStageGpa, dataGpa: firstDataGpa, tag: 0x1111 }, { rootGpa: nestedFreeGpa, dataGpa: firstDataGpa + page, tag: 0x2222 }] as const;
const shared = windowIova + 3 * page;

export default scenario({
  title: 'a guest gives its device other tables, to which its vIOMMU moves it, under DMA',
  seed: null,
  host: { iommu: 'vtd-nested', ats: true },
  variants: ['viommu-keeps-tables'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.guest('vm', guestPages);
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('vm'), guestPages * page);
    const frames = w.directory['vm.frames'] as Ref<'Run'>;
    for (const { rootGpa, dataGpa, tag } of sets) {
      fill(w.host.ram, hpaOf(runGet(w.host.kernel, frames, dataGpa / page) as Frame), page, tag);
      layFirstStage(w.host, frames, rootGpa);
      setLeaf(w.host, frames, shared, dataGpa, rootGpa);
    }
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const parent = vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT);
    const nested = vmm.nestedHwpt(iommufd, deviceId, parent, firstStageGpa);
    vmm.attach(fd, parent);
    enableAts(w.kernel, w.directory['nic'] as Ref<'PciFunction'>);
    return { iommufd, fd, deviceId, parent, nested };
  },

  actors: ({ vm, device, viommu }) => ({
    /** Ends with the tables that it began with. Whether a read goes through tables that were left is for D1 to judge. */
    guest: vm('vm', (thread, { fd, nested }) => {
      thread.expect("the attach to the guest's tables", thread.attach(fd, nested));
      const iommu = new GuestIommu(thread, 'vm');
      for (const { rootGpa } of sets.toReversed()) {
        thread.check(thread.dma('nic', 'read', shared, lineBytes) === 0, 'a page that the guest has mapped was not reached');
        iommu.enter(rootGpa);
        thread.check(thread.dma('nic', 'read', shared, lineBytes) === 0, 'a page in the new tables was not reached');
      }
      iommu.unmap(shared);
      thread.dma('nic', 'read', shared, lineBytes);
      iommu.map(shared, firstDataGpa);
    }),

    viommu: viommu('vm', (virtual, { iommufd, nested, fd, deviceId, parent }) => virtual.serveVtd({ iommufd, nested, tables: { fd, deviceId, parent } }, 3)),

    nic: device('nic', (dev) => {
      dev.serve(5);
      dev.readTag(shared, sets.map(({ tag }) => tag));
    }),
  }),
});
