/**
 * A function is reset while its owner attaches it elsewhere and takes it away: what it asked for before the reset must not be undone by the end of
 * the reset, and nobody may wake it in the middle.
 */
import type { Ref } from '#hostmem/object';
import { HostDriver } from '../actors/host-driver.ts';
import { enableAts } from '../kernel/iommu-probe.ts';
import { scenario } from '../scenario.ts';

const iova = 0x1000_0000;

export default scenario({
  title: 'a device is attached and detached in the middle of its reset',
  seed: '000',
  host: { ats: true },
  race: { number: 6, buggy: 'reset-vs-attach' },
  variants: ['reset-frees-domain'],
  holds: ['C8', 'D4', 'D6', 'G1', 'G8', 'O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    w.process('host');
    const iommufd = vmm.iommufd();
    const [first, second] = vmm.taggedIoases(iommufd, iova, [0x1111, 0x2222]);
    const fd = vmm.bind(w.device('A'), iommufd);
    enableAts(w.kernel, w.directory['A'] as Ref<'PciFunction'>);
    vmm.attach(fd, first);
    return { fd, first, second };
  },

  actors: ({ vm, device }) => ({
    /** An attach may be told that the device is being reset, and nothing else. */
    owner: vm('vmm', (thread, { fd, first, second }) => {
      thread.expect('an attach', thread.attach(fd, second), null, 'EBUSY');
      thread.expect('the detach', thread.detach(fd));
      thread.expect('an attach', thread.attach(fd, first), null, 'EBUSY');
    }),

    /** Twice at once, as when a reset of the bus follows one of the function. A request in the middle of it reaches nothing, whatever the owner does. */
    reset: vm('host', (thread) => {
      const nic = new HostDriver(thread, 'A');
      for (let depth = 0; depth < 2; depth++) nic.prepareReset();
      thread.check(thread.dma('A', 'read', iova, 64) !== 0, 'A reached memory in the middle of its reset');
      for (let depth = 0; depth < 2; depth++) nic.finishReset();
    }),

    A: device('A', (dev) => dev.serve(1)),
  }),
});
