/**
 * PASIDs are few and used again. Two processes take turns on two devices: when one ends, its number must not go to the other before its device has
 * nothing more cached, and nothing more to ask, under it.
 */
import { HwptFlag } from '../kernel/hwpt.ts';
import { firstProcessPasid } from '../kernel/process-pasid.ts';
import { scenario } from '../scenario.ts';

const src = 0x10000000;
const processes = ['shop', 'bank'] as const;
const tags = [0x5409, 0xba2c] as const;

export default scenario({
  title: 'a process gives its PASID back while another one is given one',
  seed: '004',
  race: { number: 5, buggy: 'pasid-reuse-pending-faults' },
  host: { iommu: 'vtd-first-stage', pasids: true },
  variants: [],
  holds: ['C1', 'C5', 'C6', 'D7', 'F3', 'G9', 'O1', 'O2'],

  world(w) {
    return {
      places: processes.map((name, index) => {
        const process = w.process(name);
        const iommufd = process.iommufd();
        const ioas = process.taggedIoas(iommufd, src, tags[index]!);
        const { fd, deviceId } = process.bound(w.device(`nic of ${name}`), iommufd);
        return { fd, hwpt: process.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID) };
      }),
    };
  },

  actors({ vm, device }) {
    const user = (index: 0 | 1) => vm(processes[index], (thread, { places }) => {
      const { fd, hwpt } = places[index]!;
      thread.obtain('binding the process', thread.bindProcess(fd, hwpt));
      thread.expect('unbinding the process', thread.unbindProcess(fd));
    });
    /** Goes on with the number that its process had. */
    const nic = (index: 0 | 1) => device(`nic of ${processes[index]}`, (dev) => {
      for (let pasid = firstProcessPasid; pasid < firstProcessPasid + 2; pasid++) {
        if (dev.read(src, 64, pasid) === 0) dev.check(dev.word(0) === tags[index], `read 0x${dev.word(0).toString(16)} with PASID ${pasid}`);
      }
    });
    return { shop: user(0), bank: user(1), 'nic of shop': nic(0), 'nic of bank': nic(1) };
  },
});
