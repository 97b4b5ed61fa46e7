/**
 * Where PASID tables are placed (Lu Baolu to Joerg Roedel, 16 May 2018). The numbers are one space for the whole system: ENQCMD takes a process's PASID from
 * the CPU, so that a process has the same one on every device. Sharing the *tables* too lets a device that issues a number which is not its own reach the
 * process that has it.
 *
 *   unit 0   flawed, nic     unit 1   gpu      `shop` has a PASID on nic and gpu, `guest` one on `flawed`
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { firstProcessPasid } from '../kernel/process-pasid.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const [shopTag, guestTag] = [0x5409, 0x6e57];

export default scenario({
  title: 'a device issues PASIDs that belong to processes on other devices',
  seed: '004',
  host: { iommu: 'vtd-first-stage', pasids: true, units: 2 },
  variants: ['system-wide-table', 'per-iommu-table', 'per-device-table', 'pasid-reuse-pending-faults'],
  holds: ['C1', 'C5', 'C6', 'D7', 'G9', 'O1'],

  world(w) {
    const [shop, guest] = [w.process('shop'), w.process('guest')];
    const device = (owner: typeof shop, iommufd: number, name: string, ioas: number) => {
      const { fd, deviceId } = owner.bound(w.device(name), iommufd);
      return { fd, hwpt: owner.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID) };
    };
    const memory = (owner: typeof shop, tag: number) => {
      const iommufd = owner.iommufd();
      const ioas = owner.taggedIoas(iommufd, src, tag);
      return [iommufd, ioas] as const;
    };
    const [ofShop, shopIoas] = memory(shop, shopTag);
    const [ofGuest, guestIoas] = memory(guest, guestTag);
    const flawed = device(guest, ofGuest, 'flawed', guestIoas);
    const nic = device(shop, ofShop, 'nic', shopIoas);
    w.behindUnit(1);
    const gpu = device(shop, ofShop, 'gpu', shopIoas);
    return { flawed, nic, gpu };
  },

  actors: ({ vm, device }) => ({
    shop: vm('shop', (thread, { nic, gpu }) => {
      const pasids = [nic, gpu].map(({ fd, hwpt }) => thread.bindProcess(fd, hwpt));
      thread.check(typeof pasids[0] === 'number' && pasids[0] === pasids[1], `PASIDs ${pasids.join(' and ')} of one process`);
      for (const name of ['nic', 'gpu']) thread.check(thread.enqcmd(name, 'read', src, 64) === 0, `the command to ${name} faulted`);
      for (const { fd } of [nic, gpu]) thread.expect('unbinding the process', thread.unbindProcess(fd));
    }),

    guest: vm('guest', (thread, { flawed }) => {
      thread.obtain('binding the process', thread.bindProcess(flawed.fd, flawed.hwpt));
      thread.expect('unbinding the process', thread.unbindProcess(flawed.fd));
    }),

    /** It issues whatever comes to its mind. */
    flawed: device('flawed', (dev) => {
      for (const pasid of [firstProcessPasid, firstProcessPasid + 1]) {
        if (dev.read(src, 64, pasid) === 0) dev.check(dev.word(0) === guestTag, `read 0x${dev.word(0).toString(16)} with PASID ${pasid}`);
      }
    }),

    nic: device('nic', (dev) => dev.serve(1)),
    gpu: device('gpu', (dev) => dev.serve(1)),
  }),
});
