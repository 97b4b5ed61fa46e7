/**
 * A device asks for a page that its guest's tables do not have. The request goes the whole way: from hardware's queue to the fault queue of the
 * nested HWPT, by the vIOMMU into the guest's own queue, where the guest maps the page; and its answer the whole way back. Beside that the VMM takes the
 * device to another HWPT and back: who leaves is answered by the kernel, and nobody twice.
 */
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { GuestIommu } from '../actors/guest-iommu.ts';
import { layFirstStage } from '../actors/guest-first-stage.ts';
import { firstStageGpa, nestedFreeGpa, windowIova } from '../actors/virtual-vtd.ts';
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const guestPages = 12;
const asked = windowIova + 5 * page;
const tag = 0x1111;
const success = 0;

export default scenario({
  title: "a device's page request is handed on to its guest, which maps the page and answers, while the device is moved",
  seed: null,
  host: { iommu: 'vtd-nested', ats: true, pageRequests: true },
  variants: ['iopf-no-drain'],
  holds: ['C1', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'F1', 'F2', 'F3', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.guest('vm', guestPages);
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('vm'), guestPages * page);
    const frames = w.directory['vm.frames'] as Ref<'Run'>;
    fill(w.host.ram, hpaOf(runGet(w.host.kernel, frames, nestedFreeGpa / page) as Frame), page, tag);
    layFirstStage(w.host, frames);
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const { faultId, faultFd } = vmm.faultQueue(iommufd);
    const parent = vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT);
    const nested = vmm.nestedHwpt(iommufd, deviceId, parent, firstStageGpa, faultId);
    return { iommufd, fd, parent, nested, faultFd };
  },

  actors: ({ vm, device, viommu }) => ({
    guest: vm('vm', (thread, { fd, nested }) => {
      thread.expect("the attach to the guest's tables", thread.attach(fd, nested));
      const iommu = new GuestIommu(thread, 'vm');
      thread.dma('nic', 'read', asked, page);
      // The interrupt of the unit's queue, in the host.
      thread.handOn('nic');
      iommu.ring();
      const request = iommu.takeRequest();
      if (request !== null) {
        thread.check(request.iova === asked, `the request is for 0x${request.iova.toString(16)}`);
        iommu.map(request.iova, nestedFreeGpa);
        iommu.answer(request, success);
      } else iommu.ring();
      thread.dma('nic', 'read', asked, page);
      iommu.unmap(asked);
    }),

    mover: vm('vm', (thread, { fd, parent }) => thread.expect('the move', thread.attach(fd, parent))),

    viommu: viommu('vm', (virtual, { iommufd, nested, faultFd }) => virtual.serveVtd({ iommufd, nested, faultFd }, 3)),

    nic: device('nic', (dev) => {
      dev.ask(asked);
      dev.serve(1);
      dev.serve(1);
    }),
  }),
});
