/**
 * A device asks for a page, and is replaced before the user reads the request. It lies in the queue of the HWPT that the device has left: there it has
 * to be answered, for nobody else knows of it.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;

export default scenario({
  title: 'a device is replaced while a page request of its lies unread in the old queue',
  seed: null,
  race: { number: 7, buggy: 'iopf-replace-wrong-queue' },
  host: { iommu: 'vtd-scalable', ats: true, pageRequests: true },
  variants: [],
  holds: ['F1', 'F2', 'F3', 'G1', 'G2', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const [first, second] = [vmm.faultHwptAndQueue(iommufd, deviceId, vmm.ioas(iommufd)), vmm.faultHwptAndQueue(iommufd, deviceId, vmm.ioas(iommufd))];
    vmm.attach(fd, first.hwpt);
    return { fd, first, second };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      for (const { hwpt } of [second, first]) thread.expect('a replace', thread.attach(fd, hwpt));
    }),

    user: vm('vmm', (thread, { first, second }) => {
      for (const { faultFd } of [first, second]) thread.answerAll(faultFd);
    }),

    interrupt: vm('vmm', (thread) => thread.handOn('nic')),

    nic: device('nic', (dev) => void dev.ask(src)),
  }),
});
