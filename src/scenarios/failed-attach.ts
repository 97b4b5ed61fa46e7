/**
 * A VMM asks for what it cannot have, and goes on: a replace that the driver refuses (a device without page requests, an HWPT that
 * delivers them), and an ATTACH whose argument cannot be written back. Neither may change anything: K7, K4 and K3 of 7.2.
 */
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tags = [0x1111, 0x2222] as const;

export default scenario({
  title: 'an attach that fails leaves the group as it was: its members, its regions, its table entries',
  seed: null,
  caught72: 'G2',
  variants: ['K3', 'K4', 'K7', 'mended'],
  holds: ['D4', 'D6', 'G2', 'G5', 'O1', 'O5'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [ioas, other] = vmm.taggedIoases(iommufd, src, tags);
    const [a, b] = vmm.boundAll(w.group('A', 'B').vfio, iommufd);
    const plain = vmm.hwpt(iommufd, a.deviceId, ioas);
    const withFaults = vmm.faultHwpt(iommufd, a.deviceId, ioas);
    for (const { fd } of [a, b]) vmm.attach(fd, plain);
    return { fdA: a.fd, fdB: b.fd, other, withFaults };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { fdA, fdB, other, withFaults }) => {
      thread.check(thread.attach(fdB, withFaults) === 'ENODEV', 'a device without page requests was attached to an HWPT that delivers them');
      thread.check(thread.attachReadOnly(fdA, other) === 'EFAULT', 'the kernel wrote to a page that is read-only');
    }),

    /** A replace on VT-d breaks before it makes, one that is refused too: a fault is legal while the call runs. */
    A: device('A', (dev) => dev.readTag(src, tags)),
    B: device('B', (dev) => dev.readTag(src, tags)),
  }),
});
