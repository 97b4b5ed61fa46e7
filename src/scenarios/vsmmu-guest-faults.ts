/**
 * A device of a guest with a virtual SMMUv3 reads where the guest's stage 1 has nothing. The record goes the whole way: from hardware's event queue, whose thread
 * gives the stream the guest's number, to the event queue of the vIOMMU, and by the VMM into the guest's own queue. Beside that the VMM takes the device to its parent
 * and back: what is reported then is no guest's.
 */
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { descriptorGpa, layStage1, SmmuGuestIommu } from '../actors/virtual-smmu.ts';
import { nestedFreeGpa, windowIova } from '../actors/virtual-vtd.ts';
import { smmuEventType } from '../drivers/smmuv3/guest-events.ts';
import { smmuViommuType } from '../drivers/smmuv3/viommu.ts';
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const guestPages = 12;
const lineBytes = 64;
const missing = windowIova + 5 * page;
const tag = 0x1111;
const depth = 4;
/** The nic's stream as the guest numbers it. */
const nicStream = 0x18;

export default scenario({
  title: "a device's faults in its guest's stage 1 are told to the guest, while the device is moved",
  seed: null,
  host: { iommu: 'smmuv3' },
  variants: [],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1', 'O2'],

  world(w) {
    const vmm = w.guest('vm', guestPages);
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0, w.guestMemory('vm'), guestPages * page);
    const frames = w.directory['vm.frames'] as Ref<'Run'>;
    fill(w.host.ram, hpaOf(runGet(w.host.kernel, frames, nestedFreeGpa / page) as Frame), page, tag);
    layStage1(w.host, frames);
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const parent = vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT);
    const viommu = vmm.viommu(iommufd, deviceId, parent, smmuViommuType);
    vmm.vdevice(iommufd, viommu, deviceId, nicStream);
    const nested = vmm.smmuNestedHwpt(iommufd, deviceId, viommu, descriptorGpa);
    vmm.attach(fd, nested);
    return { iommufd, fd, viommu, parent, nested, eventFd: vmm.eventQueue(iommufd, viommu, depth, smmuEventType) };
  },

  actors: ({ vm, device, viommu: virtual }) => ({
    guest: vm('vm', (thread) => {
      const iommu = new SmmuGuestIommu(thread, 'vm');
      thread.check(thread.dma('nic', 'read', missing, lineBytes) !== 0, 'a page that nobody has mapped was reached');
      // The interrupt of the unit's queue, in the host.
      thread.handOnEvents('nic');
      iommu.ring();
      for (let fault = iommu.takeFault(); fault !== null; fault = iommu.takeFault()) {
        thread.check(fault.streamId === nicStream && !fault.stage2, `a record of stream 0x${fault.streamId.toString(16)}`);
        thread.check(fault.iovaLow === missing, `a record of address 0x${fault.iovaLow.toString(16)}`);
      }
      iommu.map(missing, nestedFreeGpa);
      thread.dma('nic', 'read', missing, lineBytes);
      iommu.unmap(missing);
    }),

    mover: vm('vm', (thread, { fd, parent, nested }) => {
      thread.expect('the move to the parent', thread.attach(fd, parent));
      thread.expect("the move back to the guest's stage 1", thread.attach(fd, nested));
    }),

    vmm: virtual('vm', (thread, { iommufd, viommu, eventFd }) => thread.serveSmmu({ iommufd, viommu, eventFd }, 2)),

    nic: device('nic', (dev) => {
      dev.serve(1);
      dev.serve(1);
    }),
  }),
});
