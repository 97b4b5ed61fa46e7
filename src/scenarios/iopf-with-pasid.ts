/**
 * A device asks for pages with a PASID and without one, while its VMM moves the PASID between two HWPTs and takes it off. What is asked for with the PASID goes to the queue of what
 * the PASID has then; the RID, which stays where it is, has a queue of its own, and nothing of the other's is seen there.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const src = 0x10000000;
const pasid = 5;

export default scenario({
  title: 'page requests with a PASID while that is replaced and detached, beside those of the RID',
  seed: null,
  host: { iommu: 'vtd-scalable', ats: true, pasids: true, pageRequests: true },
  variants: ['iopf-pasid-left-behind', 'iopf-no-drain', 'iopf-double-owner'],
  holds: ['C1', 'D4', 'F1', 'F2', 'F3', 'G1', 'G2', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const { fd, deviceId } = vmm.bound(w.device('nic'), iommufd);
    const [first, second, ofRid] = [0, 1, 2].map(() => vmm.faultHwptAndQueue(iommufd, deviceId, vmm.ioas(iommufd), HwptFlag.PASID));
    vmm.attach(fd, ofRid!.hwpt);
    return { fd, first: first!, second: second!, ofRid: ofRid! };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fd, first, second }) => {
      thread.expect('the attach', thread.attachPasid(fd, pasid, first.hwpt));
      thread.expect('the replace', thread.attachPasid(fd, pasid, second.hwpt));
      thread.expect('the detach', thread.detachPasid(fd, pasid));
    }),

    /** Who is slow finds that the request was answered for the device; of the RID, which goes nowhere, nobody answers for it. */
    user: vm('vmm', (thread, { first, second, ofRid }) => {
      for (const { faultFd } of [first, second, ofRid]) {
        for (const cookie of thread.readRequests(faultFd)) {
          const errno = thread.answerRequest(faultFd, cookie);
          thread.check(errno === null || (errno === 'EINVAL' && faultFd !== ofRid.faultFd), `an answer ended with ${errno}`);
        }
      }
    }),

    interrupt: vm('vmm', (thread) => {
      for (let i = 0; i < 3; i++) thread.handOn('nic');
    }),

    nic: device('nic', (dev) => {
      for (let i = 0; i < 3; i++) dev.ask(src + i * page, i === 1 ? null : pasid);
    }),
  }),
});
