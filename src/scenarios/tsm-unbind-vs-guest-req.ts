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
  variants: ['tsm-bind-race', 'tsm-unbind-vs-guest-req'],
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
      for (const what of [Request.LOCK, Request.START]) {
        const errno = manager.request(RequestScope.STATE_CHANGE, what);
        thread.check(errno === null || errno === 'ENXIO' || errno === 'EIO', `a request ended with ${errno}`);
      }
      thread.check(manager.request(RequestScope.DEBUG_READ, Request.REPORT) === 'EINVAL', 'a request that is not about TDISP passed');
    }),

    host: vm('blue', (thread) => {
      const manager = new SecurityManager(thread, 'A');
      manager.writeBar();
      thread.check(manager.disconnect() === null, 'the device was not connected');
      thread.check(manager.connect() === null, 'the device is connected');
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
  thread.check(errno === null || errno === 'EBUSY' || errno === 'EINVAL', `the bind ended with ${errno}`);
  if (errno === null) thread.check(manager.unbind() === null, 'the unbind failed');
}
