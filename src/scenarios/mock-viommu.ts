/**
 * The guest's loop on the mock IOMMU of the kernel's selftest, which has vIOMMUs: the guest invalidates a word of its device's cache by the device's number
 * within its VM; the vIOMMU forwards that through HWPT_INVALIDATE and tells the guest of the device's events, which come meanwhile and may be lost.
 */
import { MockGuestIommu } from '../actors/virtual-mock.ts';
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const guestPages = 8;
const virtId = 0x18;
const word = 1;

export default scenario({
  title: "a guest's invalidations and its device's events go through a vIOMMU object and its event queue",
  seed: null,
  host: { iommu: 'mock' },
  variants: [],
  holds: ['O1', 'O2', 'O3', 'O4', 'P5'],

  world(w) {
    const vmm = w.guest('vm', guestPages);
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    const device = vmm.mockDevice(iommufd, ioas);
    const viommu = vmm.viommu(iommufd, device.deviceId, vmm.hwpt(iommufd, device.deviceId, ioas, HwptFlag.NEST_PARENT));
    vmm.mockGuestDevice(iommufd, device, viommu, virtId);
    return { iommufd, viommu, deviceId: device.deviceId, eventFd: vmm.eventQueue(iommufd, viommu, 1) };
  },

  actors: ({ vm, viommu: virtual }) => ({
    guest: vm('vm', (thread, { iommufd, deviceId }) => {
      const iommu = new MockGuestIommu(thread, 'vm');
      iommu.invalidate(virtId, word);
      thread.expect('the look at the word', thread.testIoctl(iommufd, 'IOMMU_TEST_DEV_CHECK_CACHE', { id: deviceId, cacheId: word, cache: 0 }));
      thread.expect('an event', thread.testIoctl(iommufd, 'IOMMU_TEST_TRIGGER_VEVENT', { deviceId }));
      iommu.ring();
      let told = 0;
      for (let event = iommu.takeEvent(); event !== null; event = iommu.takeEvent()) {
        thread.check(event === virtId, `an event of a device 0x${event.toString(16)}`);
        told++;
      }
      thread.check(told > 0, 'the guest was not told of an event');
    }),

    device: vm('vm', (thread, { iommufd, deviceId }) => thread.expect('an event', thread.testIoctl(iommufd, 'IOMMU_TEST_TRIGGER_VEVENT', { deviceId }))),

    viommu: virtual('vm', (thread, { iommufd, viommu, eventFd }) => thread.serveMock({ iommufd, viommu, eventFd }, 2)),
  }),
});
