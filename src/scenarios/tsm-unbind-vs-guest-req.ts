/**
 * Two VMMs want the interface of one device for their guests, a guest has requests for it, and the host writes one of the device's BARs,
 * disconnects the device and connects it again. All is in the order of two locks, `pci_tsm_rwsem` and that of the device.
 *
 * Forward-looking: 7.2 has this core and nobody who calls it.
 */
import { SecurityManager } from '../actors/security-manager.ts';
import type { Vm } from '../actors/vm.ts';
import { Request, RequestScope } from '../drivers/tsm/link-tsm.ts';
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'two VMMs bind one device interface while a guest has requests for it and the host disconnects it (forward-looking)',
  seed: '003',
  race: { number: 11, buggy: 'tsm-unbind-vs-guest-req' },
  correctIs: 'a design; 7.2.13 has the PCI TSM core, and nobody who calls it (forward-looking)',
  variants: ['tsm-bind-race'],
  holds: ['O2', 'T2', 'T3', 'T8'],
  host: { confidential: { checksHits: true } },

  world(w) {
    for (const name of ['red', 'blue']) w.confidentialGuest(name, 4, {});
    w.group('A');
    w.secure('A');
    return {};
  },

  actors: ({ vm, device }) => ({
    red: vm('red', (thread) => borrow(thread, 'red')),
    blue: vm('blue', (thread) => borrow(thread, 'blue')),

    /** A guest's requests come at any time. Whose they are is for its VMM to see to: the core asks whether the interface is bound. */
    requests: vm('red', (thread) => {
      const manager = new SecurityManager(thread, 'A');
      manager.lockAndStart();
      thread.check(manager.request(RequestScope.DEBUG_READ, Request.REPORT) === 'EINVAL', 'a request that is not about TDISP passed');
    }),

    host: vm('blue', (thread) => {
      const manager = new SecurityManager(thread, 'A');
      manager.writeBar();
      thread.expect('the disconnect', manager.disconnect());
      thread.expect('the connect', manager.connect());
    }),

    A: device('A', (dev) => {
      for (let i = 0; i < 2; i++) dev.read(0x1000, 64);
    }),
  }),
});

/** Whoever finds the interface free has it, until the host disconnects it. */
function borrow(thread: Vm, guest: string): void {
  const manager = new SecurityManager(thread, 'A');
  const errno = manager.bind(guest);
  thread.expect('the bind', errno, null, 'EBUSY', 'EINVAL');
  if (errno === null) thread.expect('the unbind', manager.unbind());
}
