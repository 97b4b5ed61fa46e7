/**
 * ATS is enabled for a device that is attached and busy, and disabled again: from one moment to the next the device keeps translations
 * of its own, which every unmap has to reach.
 */
import { HostDriver } from '../actors/host-driver.ts';
import { scenario } from '../scenario.ts';

const passing = 0x10000000;
const page = 4096;

export default scenario({
  title: 'ATS is switched on and off under DMA and unmaps',
  seed: null,
  host: { iommu: 'vtd-scalable', ats: true },
  variants: ['vtd-ats-on-no-tag'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D7', 'G1', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.assign(w.device('nic'), iommufd, ioas);
    const buffer = vmm.memory(page, 0x1111);
    vmm.map(iommufd, ioas, passing, buffer, page);
    return { iommufd, ioas, buffer };
  },

  actors: ({ vm, device }) => ({
    probe: vm('vmm', (thread) => {
      const nic = new HostDriver(thread, 'nic');
      nic.enableAts();
      nic.disableAts();
    }),

    vmm: vm('vmm', (thread, { iommufd, ioas, buffer }) => {
      thread.expect('the unmap', thread.unmap(iommufd, ioas, passing, page));
      thread.expect('the map', thread.map(iommufd, ioas, passing, buffer, page));
    }),

    nic: device('nic', (dev) => dev.readTag(passing, [0x1111], 3)),
  }),
});
