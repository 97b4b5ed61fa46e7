/**
 * A device asks for pages while its VMM moves it between two HWPTs, each with a queue for page requests of its own, and takes it off. Whatever a request meets, it
 * is answered once: by the user who has read it, or by who takes the device away.
 */
import { scenario } from '../scenario.ts';

const page = 4096;
const src = 0x10000000;

export default scenario({
  title: 'page requests while their device is replaced and detached',
  seed: null,
  host: { iommu: 'vtd-scalable', ats: true, pageRequests: true },
  variants: ['iopf-double-owner', 'iopf-replace-wrong-queue', 'iopf-no-drain'],
  holds: ['C1', 'D4', 'D6', 'F1', 'F2', 'F3', 'G1', 'G2', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.group('nic').vfio[0]!, iommufd);
    const [first, second] = [0, 1].map(() => vmm.faultHwptAndQueue(iommufd, deviceId, vmm.ioas(iommufd)));
    return { fd, first: first!, second: second! };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      thread.check(thread.attach(fd, first.hwpt) === null, 'the attach failed');
      thread.check(thread.attach(fd, second.hwpt) === null, 'the replace failed');
      thread.check(thread.detach(fd) === null, 'the detach failed');
    }),

    /** Who is slow finds that the request was answered for the device. */
    user: vm('vmm', (thread, { first, second }) => {
      for (const { faultFd } of [first, second, first]) {
        for (const cookie of thread.readRequests(faultFd)) {
          const errno = thread.answerRequest(faultFd, cookie);
          thread.check(errno === null || errno === 'EINVAL', `an answer ended with ${errno}`);
        }
      }
    }),

    interrupt: vm('vmm', (thread) => {
      for (let i = 0; i < 3; i++) thread.handOn('nic');
    }),

    nic: device('nic', (dev) => {
      for (let i = 0; i < 3; i++) dev.ask(src + i * page);
    }),
  }),
});
