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
  variants: ['iopf-no-drain', 'vtd-drain-without-pd'],
  holds: ['C1', 'D4', 'D6', 'F1', 'F2', 'F3', 'G1', 'G2', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const [first, second] = [0, 1].map(() => vmm.faultHwptAndQueue(iommufd, deviceId, vmm.ioas(iommufd)));
    return { fd, first: first!, second: second! };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      thread.expect('the attach', thread.attach(fd, first.hwpt));
      thread.expect('the replace', thread.attach(fd, second.hwpt));
      thread.expect('the detach', thread.detach(fd));
    }),

    /** Who is slow finds that the request was answered for the device. */
    user: vm('vmm', (thread, { first, second }) => {
      for (const { faultFd } of [first, second, first]) thread.answerAll(faultFd);
    }),

    interrupt: vm('vmm', (thread) => {
      for (let i = 0; i < 3; i++) thread.handOn('nic');
    }),

    nic: device('nic', (dev) => {
      for (let i = 0; i < 3; i++) dev.ask(src + i * page);
    }),
  }),
});
