/**
 * A VMM closes a device whose interface is bound to its guest, which has requests for it and DMA under way. The order is: unbind, and with
 * that stop the interface and flush what is known of it; then the host has the device back (SEMANTICS f.3 X6).
 *
 * Forward-looking: 7.2 has the core for this and nobody who calls it.
 */
import { SecurityManager } from '../actors/security-manager.ts';
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'a VMM closes a device whose interface is bound to its guest (forward-looking)',
  seed: '003',
  correctIs: 'a design; 7.2.13 has the PCI TSM core, and nobody who calls it (forward-looking)',
  variants: ['vfio-close-leaves-bound'],
  holds: ['D6', 'D10', 'O1', 'O2', 'O3', 'T2', 'T3', 'T8'],
  host: { confidential: { checksHits: true } },

  world(w) {
    const vmm = w.confidentialGuest('guest', 4, {});
    const [vfio] = w.group('A').vfio;
    w.secure('A');
    return { iommufd: vmm.iommufd(), vfio: vfio! };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('guest', (thread, { iommufd, vfio }) => {
      const fd = thread.obtain('binding the device', thread.bind(vfio, iommufd));
      thread.expect('binding the interface', new SecurityManager(thread, 'A').bind('guest'));
      thread.close(fd);
    }),

    guest: vm('guest', (thread) => {
      new SecurityManager(thread, 'A').lockAndStart();
    }),

    A: device('A', (dev) => {
      for (let i = 0; i < 3; i++) dev.read(0x1000, 64);
    }),
  }),
});
