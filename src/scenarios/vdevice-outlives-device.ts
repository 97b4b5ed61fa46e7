/**
 * A device that a VM's vIOMMU has under a number of the VM's: it is taken away while one thread gives it such a number, and another one
 * takes the number back. On the mock IOMMU of the kernel's selftest, for VT-d has no vIOMMUs.
 *
 * The kernel destroys the vdevice of a device that goes, and its id stays taken as long as the context is open: each round ends with
 * a context of its own, under the same descriptor and with the same ids.
 */
import type { Vm } from '../actors/vm.ts';
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

/** Number of the device in its VM. */
const virtId = 0x18;

/** Ids of the context, as they are given to its objects in their order. */
interface Ids {
  readonly ioas: number;
  readonly mock: number;
  readonly device: number;
  readonly viommu: number;
}

export default scenario({
  title: 'a device is unbound while its VM numbers it and takes the number back',
  seed: null,
  race: { number: 11, buggy: 'vdevice-outlives-device' },
  variants: [],
  holds: ['O1', 'O2', 'O3', 'O4', 'P5'],
  host: { iommu: 'mock' },

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    const { mockId: mock, deviceId: device } = vmm.mockDevice(iommufd, ioas);
    const parent = vmm.hwpt(iommufd, device, ioas, HwptFlag.NEST_PARENT);
    const viommu = vmm.viommu(iommufd, device, parent);
    // The lowest free id.
    return { iommufd, ids: { ioas, mock, device, viommu } as Ids, next: viommu + 1 };
  },

  actors: ({ vm }) => ({
    unplugger: vm('vmm', (thread, { iommufd, ids }) => {
      thread.expect('unbinding the device', thread.destroy(iommufd, ids.mock));
      thread.close(iommufd);
      thread.check(thread.open('/dev/iommu') === iommufd, 'the context has another descriptor');
      plugAgain(thread, iommufd, ids);
    }),

    /** The VM's firmware, which numbers the device. */
    numberer: vm('vmm', (thread, { iommufd, ids }) => {
      thread.obtain('numbering the device', thread.vdevice(iommufd, ids.viommu, ids.device, virtId), ...gone);
    }),

    /** Takes it back, whatever has the id. */
    destroyer: vm('vmm', (thread, { iommufd, next }) => {
      thread.expect('the DESTROY', thread.destroy(iommufd, next), null, ...gone);
    }),
  }),
});

/** What a call may end with when the device, the vIOMMU or the context is not there, or another number is given already. */
const gone = ['ENOENT', 'EBADF', 'EBUSY', 'EEXIST'];

/** Makes what the world has made, under the same ids unless somebody destroys them meanwhile. */
function plugAgain(thread: Vm, iommufd: number, { device }: Ids): void {
  const ioas = thread.ioas(iommufd);
  thread.mockDevice(iommufd, Number(ioas));
  const parent = thread.hwpt(iommufd, device, Number(ioas), HwptFlag.NEST_PARENT);
  thread.viommu(iommufd, device, Number(parent));
}
