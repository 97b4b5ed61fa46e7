/**
 * A VMM passes its guest's pasid 0 through: to VFIO it is one PASID among others, to iommufd it is the RID. The device is attached, and the
 * DETACH that the VMM knows for that says 0 and does nothing: K5 of 7.2.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tag = 0x1111;

export default scenario({
  title: 'a PASID attach of pasid 0, then the ordinary DETACH: the device is to be blocked',
  seed: null,
  caught72: 'D6',
  variants: ['K5', 'mended'],
  holds: ['D4', 'D6', 'G1', 'G2', 'G5', 'O1', 'O5'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.taggedIoas(iommufd, src, tag);
    return { fd: vmm.bind(w.device('A'), iommufd), ioas };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, ioas }) => {
      thread.expect('the PASID attach', thread.attachPasid(fd, 0, ioas), null, 'EINVAL');
      thread.expect('DETACH', thread.detach(fd));
    }),

    A: device('A', (dev) => dev.readTag(src, [tag])),
  }),
});
