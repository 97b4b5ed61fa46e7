/** The submission that asks a device that is gone, again and again. */
import { AfterTimeOut } from '../../drivers/time-out.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'submits an invalidation of a device TLB again whenever it times out, and does not look whether the device is still there',
  source: '4fc82cd907ac (CVE-2024-26891), 10e60d878139 (CVE-2026-43130), 42662d19839f (CVE-2026-43161)',
  caughtBy: 'LIVELOCK',
  vtd: { afterTimeOut: () => AfterTimeOut.AGAIN },
  riscv: { afterTimeOut: () => AfterTimeOut.AGAIN },
});
