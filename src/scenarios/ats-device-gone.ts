/**
 * A device with ATS is pulled out while its VMM unmaps what it may have kept. It answers no invalidation: the unit gives up waiting (ITE), the driver sees that nobody is there,
 * and the unmap ends. (Where a device is there and does not answer, 7.2 asks again, as often as the unit gives up.)
 */
import type { Ref } from '#hostmem/object';
import { enableAts } from '../kernel/iommu-probe.ts';
import { scenario } from '../scenario.ts';

const passing = 0x10000000;
const page = 4096;

export default scenario({
  title: 'a device with ATS is pulled out under unmaps',
  seed: null,
  host: { iommu: 'vtd-scalable', ats: true },
  variants: ['vtd-ats-inval-dead-device', 'inval-timeout-treated-done'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D6', 'D7', 'G1', 'G2', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.ioas(iommufd);
    vmm.assign(w.device('nic'), iommufd, ioas);
    enableAts(w.kernel, w.directory['nic'] as Ref<'PciFunction'>);
    const buffer = vmm.memory(page, 0x1111);
    vmm.map(iommufd, ioas, passing, buffer, page);
    return { iommufd, ioas, buffer };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { iommufd, ioas, buffer }) => {
      for (let round = 0; round < 2; round++) {
        thread.expect('the unmap', thread.unmap(iommufd, ioas, passing, page));
        thread.expect('the map', thread.map(iommufd, ioas, passing, buffer, page));
      }
    }),

    nic: device('nic', (dev) => {
      dev.comeBack();
      dev.readTag(passing, [0x1111], 2);
      dev.leave();
    }),
  }),
});
