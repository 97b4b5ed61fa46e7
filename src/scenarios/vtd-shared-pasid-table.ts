/**
 * A process has a PASID on one device; another device, flawed or malicious, sends requests with that number. With a table for each device there is
 * nothing under it. Seed 004 has the whole of it.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { firstProcessPasid } from '../kernel/process-pasid.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const tag = 0x5409;

export default scenario({
  title: 'a device issues the PASID of a process that is bound to its neighbour',
  seed: '004',
  race: { number: 5, buggy: 'system-wide-table' },
  host: { iommu: 'vtd-first-stage', pasids: true },
  variants: ['per-iommu-table'],
  holds: ['C1', 'C5', 'C6', 'D7', 'G9', 'O1'],

  world(w) {
    const shop = w.process('shop');
    const iommufd = shop.iommufd();
    const ioas = shop.taggedIoas(iommufd, src, tag);
    const { fd, deviceId } = shop.bound(w.device('nic'), iommufd);
    w.device('flawed');
    return { fd, hwpt: shop.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID) };
  },

  actors: ({ vm, device }) => ({
    shop: vm('shop', (thread, { fd, hwpt }) => {
      thread.obtain('binding the process', thread.bindProcess(fd, hwpt));
      thread.check(thread.enqcmd('nic', 'read', src, 64) === 0, 'the command faulted');
      thread.expect('unbinding the process', thread.unbindProcess(fd));
    }),

    nic: device('nic', (dev) => {
      dev.serve(1);
      dev.check(dev.word(0) === tag, `read 0x${dev.word(0).toString(16)} for the process`);
    }),

    flawed: device('flawed', (dev) => {
      for (let i = 0; i < 2; i++) dev.check(dev.read(src, 64, firstProcessPasid) !== 0, 'reached a process of its neighbour');
    }),
  }),
});
