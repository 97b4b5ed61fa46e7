/**
 * Who may let a device reach a VM's memory by a PASID (Gunthorpe to Liu, 31 Mar 2021). V4 of `ioasid_set` has the kernel hand the numbers out, keep them in a
 * set for each VM, and call back whoever has to know. What was merged isolates by descriptors: a device reaches nothing until somebody who holds both
 * the device and the iommufd attaches one PASID, a number of his own choice; nobody is called back.
 *
 * Every VM has a device, a VMM that lets it in and out, and a thread that asks for a PASID beside that.
 */
import type { Actors } from '../scenario.ts';
import { scenario } from '../scenario.ts';
import { HwptFlag } from '../kernel/hwpt.ts';

const src = 0x10000000;
/** What every VM would like to have: two may have the same. */
const wanted = 5;
/** No iommufd has so many objects. */
const foreign = 4711;
const tagOf = (vm: number): number => 0x1000 + vm;

interface Guest {
  readonly fd: number;
  readonly hwpt: number;
}

export default scenario({
  title: 'VMs let their devices reach them by PASIDs, and take it back, all at once',
  seed: '001',
  host: { iommu: 'vtd-scalable', pasids: true },
  vms: 2,
  variants: ['ioasid-set-with-callbacks', 'fd-handover', 'callback-under-lock', 'callback-hangs'],
  holds: ['C1', 'C5', 'D6', 'D7', 'G9', 'O1', 'O2'],

  world(w) {
    const guests: Guest[] = [];
    for (let number = 0; number < w.vms; number++) {
      const vmm = w.process(`vmm${number}`);
      const iommufd = vmm.iommufd();
      const ioas = vmm.taggedIoas(iommufd, src, tagOf(number));
      const { fd, deviceId } = vmm.bound(w.device(`nic${number}`), iommufd);
      guests.push({ fd, hwpt: vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID) });
    }
    return { guests };
  },

  actors({ vm, device }, { vms }) {
    const cast: Record<string, Actors<{ guests: Guest[] }>[string]> = {};
    for (let number = 0; number < vms; number++) {
      cast[`vmm${number}`] = vm(`vmm${number}`, (thread, { guests }) => {
        const { fd, hwpt } = guests[number]!;
        const pasid = thread.obtain('a PASID', thread.requestPasid(fd, wanted));
        // What another VM has made has no name here; the kernel of V4 knows the number to be none of this VM's.
        thread.check(thread.authorise(fd, pasid + 1, foreign) !== null, 'what belongs to nobody was authorised');
        thread.expect('authorising', thread.authorise(fd, pasid, hwpt));
        thread.expect('taking back', thread.revoke(fd, pasid));
      });
      cast[`vcpu${number}`] = vm(`vmm${number}`, (thread, { guests }) => {
        thread.obtain('a PASID', thread.requestPasid(guests[number]!.fd, wanted));
      });
      cast[`nic${number}`] = device(`nic${number}`, (dev) => {
        for (let pasid = wanted; pasid < wanted + 12; pasid += 4) {
          if (dev.read(src, 64, pasid) === 0) dev.check(dev.word(0) === tagOf(number), `read 0x${dev.word(0).toString(16)}, another VM's tag`);
        }
      });
    }
    cast['worker'] = vm('vmm0', ({ kernel }) => kernel.operations.pasid.work(kernel));
    return cast;
  },
});
