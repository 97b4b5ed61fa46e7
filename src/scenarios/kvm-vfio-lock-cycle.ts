/**
 * A VMM hands KVM the descriptor of a device while a driver opens that device for the VM. Both have a lock and need the other's: whoever calls back under
 * his own, instead of handing something down, builds the cycle that seed 001 warns of.
 */
import { Kvm } from '../kernel/kvm-vfio.ts';
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'KVM is handed a VFIO device while that is opened for its VM',
  seed: '001',
  race: { number: 12, buggy: 'kvm-vfio-lock-cycle' },
  variants: [],
  holds: ['O1', 'O2'],

  world(w) {
    const vmm = w.process('vmm');
    const fd = vmm.bind(w.device('nic'), vmm.iommufd());
    const kvm = Kvm.create(w.host.kernel);
    vmm.handToVm(kvm, fd);
    return { fd, kvm };
  },

  actors: ({ vm }) => ({
    vmm: vm('vmm', (thread, { fd, kvm }) => {
      thread.takeFromVm(kvm, fd);
      thread.handToVm(kvm, fd);
    }),

    driver: vm('vmm', (thread, { fd }) => {
      for (let i = 0; i < 2; i++) thread.openForVm(fd);
    }),
  }),
});
