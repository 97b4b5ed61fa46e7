/**
 * A VMM asks for what it cannot have, and goes on: a replace that the driver refuses (a device without page requests, an HWPT that
 * delivers them), and an ATTACH whose argument cannot be written back. Neither may change anything: K7, K4 and K3 of 7.2.
 */
import type { Device } from '../actors/device.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const src = 0x10000000;
const tag = 0x1111;
const otherTag = 0x2222;

export default scenario({
  title: 'an attach that fails leaves the group as it was: its members, its regions, its table entries',
  seed: null,
  caught72: 'G2',
  variants: ['K3', 'K4', 'K7', 'mended'],
  holds: ['D4', 'D6', 'G2', 'G5', 'O1', 'O5'],

  world(w) {
    const group = w.group('A', 'B');
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [ioas, other] = [tag, otherTag].map((word) => {
      const id = vmm.ioas(iommufd);
      vmm.map(iommufd, id, src, vmm.memory(page, word), page);
      return id;
    }) as [number, number];
    const [a, b] = group.vfio.map((vfio) => vmm.bound(vfio, iommufd)) as [{ fd: number; deviceId: number }, { fd: number; deviceId: number }];
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

    A: device('A', (dev) => readOwn(dev)),
    B: device('B', (dev) => readOwn(dev)),
  }),
});

/** A replace on VT-d breaks before it makes, one that is refused too: a fault is legal while the call runs. */
function readOwn(dev: Device): void {
  if (dev.read(src, 64) === 0) dev.check([tag, otherTag].includes(dev.word(0)), `read 0x${dev.word(0).toString(16)}, the tag of no IOAS`);
}
