/**
 * Two VMs have a share each of one device, whose requests all carry its one requester id. The PASID table says what each PASID reaches, not who may use
 * it: the driver keeps a list for each share, and a VM that names another one's PASID is turned away at submit (seed 001).
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const vms = [0, 1] as const;
const pasidOf = (vm: number): number => 5 + vm;
const tagOf = (vm: number): number => 0x1000 + vm;

export default scenario({
  title: 'two VMs submit work to their shares of one device, and name PASIDs of each other',
  seed: '001',
  host: { iommu: 'vtd-scalable', pasids: true },
  correctIs: 'a design, as seed 001 argues: drivers keep lists of their own; 7.2 has no such driver',
  variants: ['mdev-submit-unchecked'],
  holds: ['C1', 'C5', 'D7', 'G9', 'O2'],

  world(w) {
    w.group('nic');
    const guests = vms.map((number) => {
      const vmm = w.process(`vmm${number}`);
      const iommufd = vmm.iommufd();
      const ioas = vmm.taggedIoas(iommufd, src, tagOf(number));
      // An HWPT is made for a device: one that the VM has as a whole.
      const { deviceId } = vmm.bound(w.device(`own${number}`), iommufd);
      w.share(`share${number}`, 'nic');
      return { iommufd, hwpt: vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID) };
    });
    return { guests };
  },

  actors({ vm, device }) {
    const guest = (number: 0 | 1) => vm(`vmm${number}`, (thread, { guests }) => {
      const { iommufd, hwpt } = guests[number]!;
      const [own, other] = [pasidOf(number), pasidOf(1 - number)];
      thread.expect('allowing the PASID', thread.allow(`share${number}`, own, iommufd, hwpt));
      thread.offer(`share${number}`, other);
      thread.check(thread.submit(`share${number}`, 'read', src, 64, own) === 0, 'work under the own PASID faulted');
      thread.expect('taking the PASID back', thread.disallow(`share${number}`, own));
    });
    return {
      vmm0: guest(0),
      vmm1: guest(1),
      nic: device('nic', (dev) => {
        for (const number of vms) {
          dev.serve(1, `share${number}`);
          dev.check(dev.word(0) === tagOf(number), `read 0x${dev.word(0).toString(16)} for VM ${number}`);
        }
      }),
    };
  },
});
