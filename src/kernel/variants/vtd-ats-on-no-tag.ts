/** ATS enabled for a device that is attached already, without a cache tag for what it will keep. */
import { switchAtsOn } from '../../drivers/riscv/ats.ts';
import { setAts } from '../../drivers/vtd/ats.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "enables ATS behind an attach, and leaves the device's cache off the domain's list",
  source: '25b1b75bbaf9',
  caughtBy: 'C1',
  vtd: {
    enableAts: (vtd, device) => setAts(vtd, device, true),
  },
  riscv: {
    enableAts: (riscv, device) => switchAtsOn(riscv, device),
  },
});
