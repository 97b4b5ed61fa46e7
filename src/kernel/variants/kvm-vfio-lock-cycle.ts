/** The VM of a device under the device's own lock. */
import { DevSet, VfioDevice } from '../vfio.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "takes the device's lock to say which VM it is for, while KVM holds the VM's: who opens the device takes them the other way round",
  source: '2b48f52f2bff, 51cdc8bc120e',
  caughtBy: 'L1',
  kvm: {
    setKvm(kernel, device, kvm) {
      const set = VfioDevice.devSet.peek(kernel.memory, device);
      DevSet.lock.acquire(kernel.memory, set);
      VfioDevice.kvm.store(kernel.memory, device, kvm);
      DevSet.lock.release(kernel.memory, set);
    },
  },
});
