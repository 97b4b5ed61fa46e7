/**
 * A device asks for a page, and the request goes to the user's queue. Then the device is taken away, by which what it still asks for is answered: by
 * the core, or by iommufd, whoever has it. A request that both have is answered twice, the second time when it is freed.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;

export default scenario({
  title: 'a page request is queued for a user while its device is taken away',
  seed: null,
  race: { number: 7, buggy: 'iopf-double-owner' },
  host: { iommu: 'vtd-scalable', ats: true, pageRequests: true },
  variants: [],
  holds: ['F1', 'F2', 'F3', 'G1', 'G2', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const { hwpt, faultFd } = vmm.faultHwptAndQueue(iommufd, deviceId, vmm.ioas(iommufd));
    vmm.attach(fd, hwpt);
    return { fd, hwpt, faultFd };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, hwpt }) => {
      thread.expect('the detach', thread.detach(fd));
      thread.expect('the attach', thread.attach(fd, hwpt));
    }),

    user: vm('vmm', (thread, { faultFd }) => thread.answerAll(faultFd)),

    interrupt: vm('vmm', (thread) => thread.handOn('nic')),

    nic: device('nic', (dev) => void dev.ask(src)),
  }),
});
