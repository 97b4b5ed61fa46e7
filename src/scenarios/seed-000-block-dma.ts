/**
 * Seed 000: who may block DMA, and when. Under iommu=pt a function goes from its kernel driver to a user and back, while a driver of the kernel
 * comes and goes at its sibling; the function does DMA all the time, to memory of the host and to what its user maps.
 *
 * 7.2 (`ownership-claim`) blocks from the claim to the release, and promises nothing of a function without driver: it reaches all of memory then.
 * `default-domain-when-unbound` is the same kernel, asked for more (G10); `block-on-unbind` is what the seed wished for.
 */
import { HostDriver } from '../actors/host-driver.ts';
import type { Vm } from '../actors/vm.ts';
import { scenario } from '../scenario.ts';

const page = 4096;
const iova = 0x1000_0000;
const tag = 0x1111;
const hostSecret = 0x5ec2e7;
const siblingMemory = 0xd000_0000;

export default scenario({
  title: 'under iommu=pt a function goes from its driver to a user and back, while a driver binds to its sibling',
  seed: '000',
  host: { defaultDomain: 'identity', ats: true },
  variants: ['default-domain-when-unbound', 'block-on-unbind', 'ownership-claim', 'claim-races-driver'],
  holds: ['D4', 'D6', 'G1', 'G2', 'G3', 'G4', 'G8', 'G11', 'O1'],

  world(w) {
    const group = w.group('A', 'B');
    w.bar('B', siblingMemory);
    w.kernelDriver('A');
    w.process('host');
    const secret = w.buffer('host', 1, hostSecret) * page;
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const ioas = vmm.taggedIoas(iommufd, iova, tag);
    vmm.map(iommufd, ioas, siblingMemory, vmm.memory(page, tag), page);
    return { iommufd, ioas, vfio: group.vfio[0], secret };
  },

  actors: ({ vm, device }) => ({
    /** Driver away, user in, user out, driver back. */
    user: vm('vmm', (thread, { iommufd, ioas, vfio }) => {
      thread.unbindDriver('A');
      const fd = thread.bind(vfio, iommufd);
      if (typeof fd === 'number') {
        thread.expect("the owner's attach", thread.attach(fd, ioas));
        reset(thread, fd, ioas);
        thread.expect('the detach', thread.detach(fd));
        thread.close(fd);
      } else thread.check(fd === 'EPERM', `a bind was refused with ${fd}`);
      thread.expect("the driver's probe in a group that nobody owns", thread.bindDriver('A'));
    }),

    'driver of B': vm('host', (thread) => {
      const errno = thread.bindDriver('B');
      if (errno === null) thread.unbindDriver('B');
      else thread.check(errno === 'EBUSY', `a probe was refused with ${errno}`);
    }),

    /** Its first driver programmed it with addresses of the host, and nobody has stopped it. */
    A: device('A', (dev, { secret }) => {
      for (let i = 0; i < 2; i++) {
        dev.readTag(secret, [hostSecret]);
        dev.readTag(iova, [tag]);
      }
      // Whatever the user maps there: the request never reaches the unit.
      dev.check(dev.read(siblingMemory, 64) === 0, 'a function did not reach its sibling');
    }),
  }),
});

/** The user resets its function: parked meanwhile, back where it was afterwards. */
function reset(thread: Vm, fd: number, ioas: number): void {
  const nic = new HostDriver(thread, 'A');
  nic.prepareReset();
  thread.expect('the detach', thread.detach(fd));
  thread.check(thread.attach(fd, ioas) === 'EBUSY', 'a function was attached in the middle of its reset');
  nic.finishReset();
  thread.expect("the owner's attach", thread.attach(fd, ioas));
}
