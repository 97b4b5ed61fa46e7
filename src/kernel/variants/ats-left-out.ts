/** The flush that forgets what devices keep. */
import { variant } from '../variant.ts';

export default variant({
  mistake: "invalidates the IOTLB behind an unmap, and not the device's own cache",
  source: 'SEMANTICS d.2 Q1 without its third step (model-derived; of RISC-V forward-looking: 7.2 has no ATS there)',
  caughtBy: 'D1',
  vtd: { flushDeviceTlb: () => {} },
  riscv: { flushDeviceTlb: () => {} },
});
