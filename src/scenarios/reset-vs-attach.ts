/**
 * A function is reset while its owner attaches it elsewhere and takes it away: what it asked for before the reset must not be undone by the end of
 * the reset, and nobody may wake it in the middle.
 */
import type { Ref } from '#hostmem/object';
import type { Vm } from '../actors/vm.ts';
import { finishReset, prepareReset } from '../kernel/device-reset.ts';
import { enableAts } from '../kernel/iommu-probe.ts';
import { scenario } from '../scenario.ts';

const iova = 0x1000_0000;

export default scenario({
  title: 'a device is attached and detached in the middle of its reset',
  seed: '000',
  host: { ats: true },
  race: { number: 6, buggy: 'reset-vs-attach' },
  variants: ['reset-frees-domain'],
  holds: ['D4', 'D6', 'G1', 'G8', 'O1', 'O2'],

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
    owner: vm('vmm', (thread, { fd, first, second }) => {
      refusedByReset(thread, thread.attach(fd, second));
      thread.expect('the detach', thread.detach(fd));
      refusedByReset(thread, thread.attach(fd, first));
    }),

    /** Twice at once, as when a reset of the bus follows one of the function. The device is silent from the first to the last. */
    reset: vm('host', (thread) => {
      const nic = thread.named('A') as Ref<'PciFunction'>;
      for (let depth = 0; depth < 2; depth++) prepareReset(thread.kernel, nic);
      for (let depth = 0; depth < 2; depth++) finishReset(thread.kernel, nic);
      thread.dma('A', 'read', iova, 64);
    }),

    A: device('A', (dev) => dev.serve(1)),
  }),
});

/** An attach may be told that the device is being reset, and nothing else. */
function refusedByReset(thread: Vm, errno: ReturnType<Vm['attach']>): void {
  thread.expect('an attach', errno, null, 'EBUSY');
}
