/** The time-out that is taken for an answer. */
import { AfterTimeOut } from '../../drivers/time-out.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'takes an invalidation that has timed out for one that was carried out',
  source: "XSA-373 (CVE-2021-28692), as Linux would have it; of RISC-V what riscv_iommu_cmdq_process of 7.2 does with cmd_to (forward-looking: it has no ATS)",
  caughtBy: 'C3',
  vtd: { afterTimeOut: () => AfterTimeOut.DONE },
  // The bit is cleared and nobody is told: the unit goes on at the fence, which has nobody to wait for any more.
  riscv: { markAborted: () => {} },
});
