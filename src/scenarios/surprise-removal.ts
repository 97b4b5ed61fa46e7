/** Somebody may pull out a device in the middle of its DMA, and plug it in again, where a strategy wants it: nobody has to. */
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'a device may be unplugged whenever it suits least',
  seed: null,
  host: { iommu: 'vtd-scalable' },
  variants: ['vtd-pasid-torn-teardown'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D7', 'G1'],

  world(w) {
    w.process('host');
    w.group('nic');
    return {};
  },

  actors: ({ vm, device }) => ({
    operator: vm('host', (thread) => {
      thread.mayUnplug('nic');
      thread.close(thread.open('/dev/iommu'));
    }),

    nic: device('nic', (dev) => dev.readNothing(0x1000, 3)),
  }),
});
