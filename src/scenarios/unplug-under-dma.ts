/** A function is unplugged while it does DMA, and plugged in again: its context entry and its PASID directory go under its requests. */
import { HostDriver } from '../actors/host-driver.ts';
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'a function is unplugged in the middle of its DMA, and its PASID directory freed',
  seed: null,
  host: { iommu: 'vtd-scalable' },
  variants: ['vtd-context-torn-uaf'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D7', 'G1'],

  world(w) {
    w.process('host');
    w.group('nic');
    return {};
  },

  actors: ({ vm, device }) => ({
    hotplug: vm('host', (thread) => {
      const nic = new HostDriver(thread, 'nic');
      nic.unplug();
      nic.plug();
    }),

    nic: device('nic', (dev) => dev.readNothing(0x1000, 3)),
  }),
});
